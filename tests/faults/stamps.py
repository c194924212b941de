"""When something was found out, and of which code: stands on every line of `tests/faults/results`."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[2]


@cache
def commit() -> str:
    """Return the commit this is, with a plus when files differ from it; the same as long as the process lives."""
    try:
        described = ["git", "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"]
        return subprocess.run(described, cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def stamp() -> dict[str, str]:
    """Return the time of now and the commit, as fields of a line."""
    return {"at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit()}
