"""Moments as people and programs read them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(milliseconds: int | None) -> str | None:
    """Return a time as ISO 8601 in UTC.

    Args:
        milliseconds: Since 1970, or None.
    """
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
