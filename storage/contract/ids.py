"""Job and worker ids: canonical UUIDv7 (RFC 9562, section 5.7), so that ids sort by the time they were made."""

from __future__ import annotations

import os
import re
import time
from uuid import UUID

from storage.contract.errors import UnknownJob

_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def new_id(at: float | None = None) -> str:
    """Make a UUIDv7: 48 bits of milliseconds since 1970, 74 random bits, in canonical lower-case form.

    Args:
        at: Seconds since 1970; default: now, on this host's clock.
    """
    milliseconds = time.time_ns() // 1_000_000 if at is None else int(at * 1000)
    value = int.from_bytes(milliseconds.to_bytes(6, "big") + os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def is_id(text: str) -> bool:
    """Whether `text` is an id as `new_id` writes it."""
    return _CANONICAL.fullmatch(text) is not None


def checked_job_id(given: object) -> str:
    """Return what a caller gave as a canonical job id.

    Args:
        given: A text, of which surrounding blanks and upper case are forgiven, or a `UUID`.

    Raises:
        UnknownJob: When it is no UUIDv7, so that no job can have it.
    """
    if not isinstance(given, str | UUID):
        raise UnknownJob(f"whose id is of type {type(given).__name__}")
    text = str(given)
    candidate = text.strip().lower()
    if not is_id(candidate):
        raise UnknownJob(repr(text[:80]))
    return candidate
