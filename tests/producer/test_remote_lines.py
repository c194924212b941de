"""Records on their way over HTTP: what becomes of odd ones, what is judged here, how they are cut into parts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from producer.records import RecordLike, records_of
from producer.remote.lines import Lines, Refusals
from producer.remote.upload import _Parts, _quoted
from storage.contract.errors import InvalidItems, InvalidOption


def _sent(records: list[RecordLike], with_ids: bool = False) -> list[Any]:
    lines = [line.data for line in Lines(records, with_ids, None)]
    assert all(data.count(b"\n") == 1 and data.endswith(b"\n") for data in lines)
    return [json.loads(data) for data in lines]


def test_texts_travel_as_they_are() -> None:
    texts = ["plain", 'with "marks" and \\', "two\nlines\r", "今天", "\u2028.", "\x00"]
    assert _sent(list(records_of(texts, None))) == texts


def test_what_is_no_text_travels_as_the_reason() -> None:
    records: list[RecordLike] = [(text, None, "", None) for text in (b"bytes", 7, {"text": "hidden"}, "\ud800 alone")]
    records.append(("broken", None, "line 4", "not UTF-8\0" + "!" * 1000))
    assert _sent(records) == [
        {"problem": "the text is bytes, not a string"},
        {"problem": "the text is a number, not a string"},
        {"problem": "the text is an object, not a string"},
        {"problem": "the text has a lone surrogate at character 0"},
        {"problem": "not UTF-8?" + "!" * 490},
    ]


def test_an_id_travels_where_it_is_one() -> None:
    records: list[RecordLike] = [("a", "x", "", None), ("b", 7, "", None), ("c", None, "", None), ("", "y", "", None)]
    assert _sent(records, with_ids=True) == [
        {"id": "x", "text": "a"},
        {"id": None, "problem": "the id is a number, not a string"},
        {"id": None, "problem": "the id is missing"},
        {"id": "y", "problem": "the text is empty"},
    ]


def test_one_bad_item_ends_the_lines_but_all_are_judged() -> None:
    # Given 5,000 texts, three of them bad, in different batches
    texts: list[Any] = ["good"] * 5000
    texts[2000], texts[2001], texts[4999] = "", None, b"bytes"
    refusals = Refusals()
    # When they are read
    lines = list(Lines(records_of(texts, None), False, refusals))
    # Then those before the bad ones' batch went, and every bad one is named
    assert [line.position for line in lines] == list(range(1024))
    with pytest.raises(InvalidItems) as raised:
        refusals.check()
    told = [(problem.position, problem.where, problem.reason) for problem in raised.value.problems]
    assert told == [
        (2000, "item 2000", "the text is empty"),
        (2001, "item 2001", "the text is missing, not a string"),
        (4999, "item 4999", "the text is bytes, not a string"),
    ]


def test_parts_hold_every_line_once_and_in_order() -> None:
    # Given lines of 103 bytes
    parts = _Parts(Lines(records_of((f"{i:0100}" for i in range(1000)), None), False, None))
    # When a first handful was read, and all the rest is cut into parts of about 10 kB
    first = parts.gather(500)
    assert len(first) == 5 and not parts.ended
    cut = list(parts.from_here(first, 10_000))
    # Then nothing is lost or doubled, and all parts but the last are full
    assert [line.position for part in cut for line in part] == list(range(1000))
    assert {len(part) for part in cut[:-1]} == {98}


def test_parts_end_where_the_lines_end_exactly() -> None:
    parts = _Parts(Lines(records_of(["x" * 97] * 10, None), False, None))
    assert [len(part) for part in parts.from_here(parts.gather(500), 500)] == [5, 5]


@pytest.mark.parametrize(("key", "header"), [("plain-1", '"plain-1"'), ('a "b" \\c', '"a \\"b\\" \\\\c"')])
def test_an_idempotency_key_travels_in_marks(key: str, header: str) -> None:
    assert _quoted(key) == header


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel", "two\nlines"])
def test_a_key_that_no_header_can_hold_is_refused(key: str) -> None:
    with pytest.raises(InvalidOption):
        _quoted(key)
