"""Judges items at the door: what is a valid text and a valid id, and the reason when one is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producer.records import RecordLike
from storage.texts import hash_ids

#: Longest caller's id, in characters.
MAX_ID_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Judged:
    """Consecutive items and what was found of them, column by column.

    Args:
        texts: Each in UTF-8; empty where the item is invalid.
        ids: The callers' ids, empty where one is not valid; None when the job has none.
        id_hashes: uint64, shape (items,): the hashes of `ids`; None when the job has none.
        problems: Why items are invalid, by place.
    """

    texts: list[bytes]
    ids: list[str] | None
    id_hashes: NDArray[np.uint64] | None
    problems: dict[int, str]

    def refuse(self, place: int, problem: str) -> None:
        """Make an item invalid that was not so already."""
        if place not in self.problems:
            self.problems[place] = problem
            self.texts[place] = b""


def judge(records: Sequence[RecordLike], max_bytes: int, with_ids: bool) -> Judged:
    """Judge records one by one; repeated ids are judged elsewhere.

    Args:
        records: What a reader found.
        max_bytes: Longest text, in bytes of UTF-8.
        with_ids: Whether every record must have a caller's id.
    """
    given, given_ids, _, found = zip(*records, strict=True)
    texts, problems = _judge_texts(given, found, max_bytes)
    if not with_ids:
        return Judged(texts, None, None, problems)
    ids, id_problems = _judge_ids(given_ids)
    judged = Judged(texts, ids, hash_ids(ids), problems)
    for place, problem in id_problems.items():
        judged.refuse(place, problem)
    return judged


def estimate_tokens(texts: Sequence[bytes]) -> NDArray[np.int64]:
    """Return rough numbers of tokens: about 4.5 bytes a token in Latin script, one a character in Chinese.

    Args:
        texts: Each in UTF-8.

    Returns:
        int64, shape (texts,).
    """
    sizes = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    ascii_only = np.fromiter(map(bytes.isascii, texts), dtype=bool, count=len(texts))
    return 2 + np.where(ascii_only, sizes * 2 // 9, sizes // 3)


def _judge_texts(
    given: Sequence[object], found: Sequence[str | None], max_bytes: int
) -> tuple[list[bytes], dict[int, str]]:
    texts = _valid_texts(given, max_bytes) if set(found) == {None} else None
    if texts is not None:
        return texts, {}
    texts, problems = [], {}
    for place, (text, problem) in enumerate(zip(given, found, strict=True)):
        encoded, reason = (b"", problem) if problem is not None else _judge_text(text, max_bytes)
        texts.append(encoded)
        if reason is not None:
            problems[place] = reason
    return texts, problems


def _valid_texts(given: Sequence[object], max_bytes: int) -> list[bytes] | None:
    """Return texts in UTF-8 when all are valid, as most are: told of all at once in a fraction of the time."""
    words = _words(given)
    # What has more letters than bytes are allowed is too long in any case, and not worth another copy.
    if words is None or max(map(len, words)) > max_bytes:
        return None
    try:
        encoded = list(map(str.encode, words))
    except UnicodeEncodeError:
        return None
    return encoded if max(map(len, encoded)) <= max_bytes else None


def _words(given: Sequence[object]) -> list[str] | None:
    """Return what is given when all of it is strings that say something."""
    words = [one for one in given if type(one) is str]
    return words if len(words) == len(given) and all(words) and not any(map(str.isspace, words)) else None


def _judge_text(text: object, max_bytes: int) -> tuple[bytes, str | None]:
    if not isinstance(text, str):
        return b"", f"the text is {_kind(text)}, not a string"
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        return b"", f"the text has a lone surrogate at character {error.start}"
    if len(encoded) > max_bytes:
        return b"", f"the text has {len(encoded):,} bytes, more than the limit of {max_bytes:,}"
    if not encoded or text.isspace():
        return b"", "the text is empty" if not encoded else "the text is blank"
    return encoded, None


def _judge_ids(given: Sequence[object]) -> tuple[list[str], dict[int, str]]:
    ids = _words(given)
    if ids is not None and max(map(len, ids)) <= MAX_ID_LENGTH:
        together = "".join(ids)
        if together.isascii() and "\0" not in together:
            return ids, {}
    ids, problems = [], {}
    for place, custom_id in enumerate(given):
        word, problem = _judge_id(custom_id)
        ids.append(word)
        if problem is not None:
            problems[place] = problem
    return ids, problems


def _judge_id(custom_id: object) -> tuple[str, str | None]:
    if custom_id is None:
        return "", "the id is missing"
    if not isinstance(custom_id, str):
        return "", f"the id is {_kind(custom_id)}, not a string"
    if not custom_id or custom_id.isspace():
        return "", "the id is empty"
    if len(custom_id) > MAX_ID_LENGTH:
        return "", f"the id has {len(custom_id):,} characters, more than the limit of {MAX_ID_LENGTH}"
    if "\0" in custom_id:  # which PostgreSQL's text cannot hold, nor NumPy's at its end
        return "", "the id has a NUL character"
    try:
        custom_id.encode()
    except UnicodeEncodeError:
        return "", "the id has a lone surrogate"
    return custom_id, None


def _kind(value: object) -> str:
    names = {"NoneType": "missing", "dict": "an object", "list": "a list", "bool": "a truth value"}
    names |= {"int": "a number", "float": "a number", "bytes": "bytes"}
    name = type(value).__name__
    return names.get(name, f"a {name}")
