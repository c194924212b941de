"""Moments as people and programs read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from storage.contract.errors import InvalidOption

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(rf"([0-9]{{1,6}}(?:\.[0-9]{{1,6}})?)([{''.join(_UNITS)}])")


def iso(milliseconds: int | None) -> str | None:
    """Return a time as ISO 8601 in UTC.

    Args:
        milliseconds: Since 1970, or None.
    """
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(moment: datetime) -> int:
    """Return a time, which has a zone, in whole milliseconds since 1970."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def moment(told: str, now: datetime) -> datetime:
    """Return a time that a person wrote: how long ago, or an ISO 8601 time, in UTC where it names no zone.

    Args:
        told: Such as `90m`, `12h`, `7d` or `2026-11-29T18:00`.
        now: What `ago` is counted from.

    Raises:
        InvalidOption: When it is no time.
    """
    ago = _AGO.fullmatch(told)
    try:
        if ago is not None:
            return now - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
        found = datetime.fromisoformat(told)
    except (ValueError, OverflowError):
        remedy = "Write how long ago, such as 90m, 12h or 7d, or a time such as 2026-11-29T18:00 (UTC)."
        raise InvalidOption(f"{told!r} is no time.", remedy) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
