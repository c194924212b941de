"""One text on its way in, before anybody judged it."""

from __future__ import annotations

from typing import NamedTuple


class Record(NamedTuple):
    """What a reader found where an item should be.

    Args:
        text: What stands where the text should be; anything, it is judged by `submission`.
        id: What stands where the caller's id should be, or None where there is none.
        where: How a person finds it again: `line 7`, `row 7`, `item 7` (files count from 1, items from 0).
        problem: Why the reader could not make a text of it, or None.
    """

    text: object
    id: object = None
    where: str = ""
    problem: str | None = None


#: A record, or a plain tuple of the same fields, which is made in a fraction of the time.
RecordLike = tuple[object, object, str, str | None]
