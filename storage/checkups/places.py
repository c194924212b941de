"""How a place is shown to people: never with its password; and what room a disk has."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from storage.checkups.check import Outcome, ok, warning, wrong

#: A disk with less than this is about full, in bytes and as a share.
_SOON, _SOON_SHARE = 1 << 30, 0.05

#: With less than this nothing more is written soon, in bytes.
_FULL = 100 << 20

_LOGIN = re.compile(r"(://[^:@/?]*):.*@")
_PARAMETER = re.compile(r"(password|passwd|pwd|secret|token)=[^&\s]*", re.IGNORECASE)


def shown(url: str) -> str:
    """Return a URL as it may be shown.

    Args:
        url: May hold a password, as part of the login or as a parameter.
    """
    return _PARAMETER.sub(r"\1=***", _LOGIN.sub(r"\1:***@", url))


def size(count: float) -> str:
    """Return bytes as a person reads them: `3.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def room(folder: Path) -> Outcome:
    """Return what is to be said of the disk under a folder.

    Args:
        folder: It, or the nearest above it that is there, is looked at.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = shutil.disk_usage(folder)
    found = f"{size(disk.free)} of {size(disk.total)} are free under {folder}."
    if disk.free < _FULL:
        return wrong(found, "Make room now: what cannot be written is refused, and workers wait.")
    if disk.free < _SOON or disk.free < _SOON_SHARE * disk.total:
        return warning(found, "Make room, or delete old jobs (EMBEDMILL_KEEP_DAYS does so by itself).")
    return ok(found)


def median(values: list[float]) -> float:
    """Return the middle one of some values."""
    return sorted(values)[len(values) // 2]
