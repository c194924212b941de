"""The only door to OpenVINO and NNCF, which on import would otherwise report their use to their maker."""

from __future__ import annotations

import sys
from typing import Any

#: Package through which both libraries report; where it is missing they do not.
_TELEMETRY = "openvino_telemetry"


def openvino() -> Any:
    """Return the module `openvino`."""
    _stay_silent()
    import openvino

    # Its way to NumPy is made ready on first use, and two threads that were the first at once waited for each other for
    # ever (seen in 2026.4.1).
    openvino.Type.f32.to_dtype()
    return openvino


def nncf() -> Any:
    """Return the module `nncf`, without its progress bars."""
    _stay_silent()
    import logging

    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf


def _stay_silent() -> None:
    # None in place of a module makes its import fail: https://docs.python.org/3/reference/import.html#the-module-cache
    sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]
