"""Numbers, times and names as a person reads them, on the page and on a terminal."""

from __future__ import annotations

from datetime import datetime

_STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"))

#: Letters of a job's id that tell it from others at a glance; the first ones are only the time.
_TAIL = 8


def number(value: float) -> str:
    """Return a whole number with its thousands apart: `1,204`."""
    return f"{value:,.0f}"


def counted(value: int, noun: str) -> str:
    """Return a number with its noun: `1 text`, `1,204 texts`."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def printable(text: str) -> str:
    """Return a text of somebody else's in one line, in which nothing moves a terminal's cursor or colours it."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def short(value: float) -> str:
    """Return a number in few letters, which stay as many while it grows: `7`, `12.0k`, `4.5M`."""
    for unit in ("", "k", "M", "G"):
        if abs(value) < 999.5:
            return f"{value:.0f}{unit}" if not unit or value >= 100 else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:,.0f}T"


def compact(value: float) -> str:
    """Return a number in as few letters as can be: `7`, `12k`, `4.5M`."""
    return short(value).replace(".0", "")


def memory(size: float | None) -> str:
    """Return a size in bytes: `612 MiB`, `1.4 GiB`; empty when it is not known."""
    if size is None:
        return ""
    return f"{size / 2**20:,.0f} MiB" if size < 1000 * 2**20 else f"{size / 2**30:,.1f} GiB"


def share(value: float | None) -> str:
    """Return a share of one in percent: `93 %`; empty when it is not known."""
    return "" if value is None else f"{100 * value:.0f} %"


def rate(value: float | None) -> str:
    """Return tokens a second: `18,400 tokens/s`; empty when nothing is known."""
    return "" if value is None else f"{value:,.0f} tokens/s"


def duration(seconds: float | None) -> str:
    """Return a length of time in its two largest units: `3 min 12 s`; empty when it is not known."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600} h"


def moment(iso: str | None) -> datetime | None:
    """Return a time of a status as one to reckon with."""
    return None if iso is None else datetime.fromisoformat(iso)


def ago(iso: str | None, now: float) -> str:
    """Return how long ago a time was: `3 min ago`; empty when there is none.

    Args:
        iso: The time, by the database's clock.
        now: What the same clock says, in seconds since 1970.
    """
    then = moment(iso)
    if then is None:
        return ""
    seconds = now - then.timestamp()
    for step, name in _STEPS:
        if seconds >= step:
            return f"{seconds // step:.0f} {name} ago"
    return "just now" if seconds < 10 else f"{seconds:.0f} s ago"


def clock(iso: str | None) -> str:
    """Return a time to the second, in UTC."""
    then = moment(iso)
    return "" if then is None else then.strftime("%Y-%m-%d %H:%M:%S UTC")


def took(began: str | None, ended: str | None) -> float | None:
    """Return the seconds between two times, or None when one is missing."""
    first, last = moment(began), moment(ended)
    return None if first is None or last is None else (last - first).total_seconds()


def short_id(job_id: str) -> str:
    """Return the end of a job's id, by which a person tells it from others."""
    return job_id[-_TAIL:]


def short_model(name: str) -> str:
    """Return a model's name without its owner or folder."""
    return name.rstrip("/").rsplit("/", 1)[-1]
