"""What tests need and a machine may lack: at home such a test is skipped, in CI it fails."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest


def do_without(reason: str) -> NoReturn:
    """Skip the test, or fail it where CI must not skip.

    Args:
        reason: What is missing.
    """
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def need_package(module: str, package: str) -> Path:
    """Return the folder of an installed Python package."""
    found = find_spec(module)
    if found is not None and found.origin is not None:
        return Path(found.origin).parent
    do_without(f"{package} is not installed")


def need_program(*names: str, package: str) -> str:
    """Return the path of the first of these programs that is there.

    Args:
        *names: Names on the PATH, the best first.
        package: Debian's package, which `.ci/run` installs.
    """
    for name in names:
        # Root's programs lie in folders that are not on everybody's PATH.
        if found := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
            return found
    do_without(f"needs Debian's package {package}")


def need_faketime() -> Path:
    """Return the library that gives a process another clock."""
    for library in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"):
        return library
    do_without("needs Debian's package faketime")
