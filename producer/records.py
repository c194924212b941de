"""One text on its way in, before anybody judged it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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


#: Longest reason that travels in place of a text, in characters.
LONGEST_PROBLEM = 500


def told_problem(given: object) -> str | None:
    """Return why an item is invalid as it may travel and be kept, or None where nothing is said.

    Args:
        given: What a reader said, or what stands where a program says it.
    """
    if not isinstance(given, str) or not given.strip():
        return None
    # What no database keeps is not worth another refusal.
    return given[:LONGEST_PROBLEM].encode(errors="replace").decode().replace("\0", "?")


#: A record, or a plain tuple of the same fields, which is made in a fraction of the time.
RecordLike = tuple[object, object, str, str | None]


def records_of(texts: Iterable[str], ids: Iterable[str] | None) -> Iterable[RecordLike]:
    """Return texts and the callers' ids as records, one by one.

    Args:
        texts: Any number; read once.
        ids: One a text, or None.

    Raises:
        InvalidOption: When `texts` is a single text, or either is no list of anything.
        InvalidItems: While they are read, when there are more of one than of the other.
    """
    if isinstance(texts, str | bytes):
        raise InvalidOption("texts is a single text.", "Give a list, also for one text: [text].")
    if isinstance(texts, Mapping):
        raise InvalidOption(
            "texts is a mapping, of which only the keys would be read.",
            "Give its texts, and what they are called as ids: submit(texts.values(), ids=texts.keys()).",
        )
    _check_iterable("texts", texts, "Give a list of strings, or anything else that yields them.")
    if ids is None:
        return zip(texts, repeat(None), repeat(""), repeat(None), strict=False)
    if isinstance(ids, str | bytes | Mapping):
        kind = "mapping" if isinstance(ids, Mapping) else "single id"
        raise InvalidOption(f"ids is a {kind}.", "Give a list with an id for each text, also for one: [id].")
    _check_iterable("ids", ids, "Give a list with an id for each text.")
    return _with_ids(texts, ids)


def _check_iterable(name: str, given: object, remedy: str) -> None:
    try:
        iter(given)  # type: ignore[call-overload]
    except TypeError:
        raise InvalidOption(f"{name} is of type {type(given).__name__}, which yields nothing.", remedy) from None


def _with_ids(texts: Iterable[str], ids: Iterable[str]) -> Iterator[RecordLike]:
    missing = object()
    for position, (text, custom_id) in enumerate(zip_longest(texts, ids, fillvalue=missing)):
        if custom_id is missing:
            raise InvalidItems([Problem(position, f"item {position}", "there are fewer ids than texts")], 1)
        if text is missing:
            raise InvalidItems([Problem(position, f"item {position}", "there are more ids than texts")], 1)
        yield text, custom_id, "", None
