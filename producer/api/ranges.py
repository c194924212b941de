"""Conditional and partial requests (RFC 9110, sections 13 and 14): what the client has already, and what it lacks."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def is_had(headers: Headers, etag: str) -> bool:
    """Whether the client has what this entity tag stands for, so that 304 is all it needs."""
    given = headers.get("if-none-match")
    if given is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return "*" in tags or etag in tags


def wants_part(headers: Headers, etag: str) -> bool:
    """Whether the client asks for one range of what this entity tag stands for; several at once are not served."""
    if headers.get("if-range", etag) != etag:
        return False
    found = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    return found is not None and found[1] + found[2] != ""


def part(headers: Headers, size: int) -> tuple[int, int]:
    """Return where the range that is asked for begins, and where the bytes behind it begin.

    Args:
        headers: Of a request for which `wants_part` holds.
        size: Bytes of the whole.

    Raises:
        HTTPException: 416 when it begins behind the end.
    """
    found = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    start, stop = 0, size
    if found is not None and found[1]:
        start = int(found[1])
        stop = min(size, int(found[2]) + 1) if found[2] else size
    elif found is not None:
        start = max(0, size - int(found[2]))
    if start >= stop:
        raise HTTPException(416, "There are no such bytes.", {"Content-Range": f"bytes */{size}"})
    return start, stop
