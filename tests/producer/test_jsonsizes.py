"""How much there is in JSON is told without parsing it, exactly, and in time that grows with its length alone."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from producer.jsonsizes import JSONSize, is_within, measured

#: Letters of which texts are made: those that mean something in JSON, and some that do not.
_LETTERS = '"\\[]{},:ab\n∢é'

#: Longest look through a megabyte, in seconds of the processor, whatever else the machine does; it takes hundredths,
#: and would take hours if it looked back.
_LONGEST = 10


def test_what_is_told_is_what_a_parser_finds() -> None:
    # Given values of all kinds, with brackets, quotes and backslashes in their texts
    chance = random.Random(7)
    for _ in range(300):
        value = _made(chance, 6)
        text = json.dumps(value, ensure_ascii=chance.random() < 0.5).encode()
        # When looked through, then each is told as it is
        assert measured(text) == JSONSize(_depth(value), _values(value), _members(value)), text


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        (b"[" * 65 + b'"' + b'\\"' * 500_000, 65),
        (b'"' * 1_000_001, 0),
        (b"\\" * 1_000_001, 0),
        (b"[" * 1_000_000, 1_000_000),
    ],
    ids=["a text without an end", "quotes", "backslashes", "brackets"],
)
def test_what_is_no_json_takes_no_longer(text: bytes, depth: int) -> None:
    began = time.process_time()
    assert measured(text).depth == depth
    assert time.process_time() - began < _LONGEST


def test_texts_full_of_marks_are_within_what_is_allowed() -> None:
    most = JSONSize(2, 10, 2)
    # Given texts that hold more marks than allowed, then they are no values
    assert is_within(json.dumps({"a": ["[{,:" * 100] * 5, "b": ":"}).encode(), most)
    # And one value, one name or one list too many is told
    assert is_within(json.dumps([0] * 10).encode(), most) and not is_within(json.dumps([0] * 11).encode(), most)
    assert not is_within(json.dumps({"a": 1, "b": 2, "c": 3}).encode(), most)
    assert not is_within(b"[[[]]]", most)


def _made(chance: random.Random, depth: int) -> Any:
    kind = chance.random() if depth else 0.0
    if kind < 0.3:
        return "".join(chance.choice(_LETTERS) for _ in range(chance.randrange(9)))
    if kind < 0.6:
        return [_made(chance, depth - 1) for _ in range(chance.randrange(5))]
    return {_made(chance, 0): _made(chance, depth - 1) for _ in range(chance.randrange(5))}


def _inner(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _depth(value: Any) -> int:
    return 1 + max(map(_depth, _inner(value)), default=0) if isinstance(value, list | dict) else 0


def _values(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(len(value) - 1, 0) + sum(map(_values, _inner(value)))


def _members(value: Any) -> int:
    return (len(value) if isinstance(value, dict) else 0) + sum(map(_members, _inner(value)))
