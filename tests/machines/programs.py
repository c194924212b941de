"""Programs that no Python package holds: Debian's packages have them, and `.ci/run` installs them."""

from __future__ import annotations

import os
import shutil

import pytest


def need_program(*names: str, package: str) -> str:
    """Return the path of the first of these programs that is there.

    Without any of them skip the test, or fail it where CI must not skip.

    Args:
        *names: Names on the PATH, the best first.
        package: Debian's package.
    """
    for name in names:
        # Root's programs lie in folders that are not on everybody's PATH.
        if found := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
            return found
    reason = f"needs Debian's package {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
