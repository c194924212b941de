"""One text on its way in, before anybody judged it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat, zip_longest
from typing import NamedTuple

from storage.contract.errors import InvalidItems, InvalidOption, Problem


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


def records_of(texts: Iterable[str], ids: Iterable[str] | None) -> Iterable[RecordLike]:
    """Return texts and the callers' ids as records, one by one.

    Args:
        texts: Any number; read once.
        ids: One a text, or None.

    Raises:
        InvalidOption: When `texts` is a single text.
        InvalidItems: While they are read, when there are more of one than of the other.
    """
    if isinstance(texts, str | bytes):
        raise InvalidOption("texts is a single text.", "Give a list, also for one text: [text].")
    if ids is None:
        return zip(texts, repeat(None), repeat(""), repeat(None), strict=False)
    return _with_ids(texts, ids)


def _with_ids(texts: Iterable[str], ids: Iterable[str]) -> Iterator[RecordLike]:
    missing = object()
    for position, (text, custom_id) in enumerate(zip_longest(texts, ids, fillvalue=missing)):
        if custom_id is missing:
            raise InvalidItems([Problem(position, f"item {position}", "there are fewer ids than texts")], 1)
        if text is missing:
            raise InvalidItems([Problem(position, f"item {position}", "there are more ids than texts")], 1)
        yield text, custom_id, "", None
