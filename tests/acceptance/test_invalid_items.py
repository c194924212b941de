"""One rule for invalid items, in the shell and in Python: `refuse` accepts nothing, `keep` gives each its error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from embedmill import Client
from storage.contract.errors import InvalidItems
from tests.acceptance.shell import Shell

#: Bytes; the longest text allowed here.
LIMIT = 60

#: Every kind of item, by its reason; None is valid.
KINDS: list[tuple[str | None, object]] = [
    (None, {"id": "a", "text": "The first text is fine."}),
    ("the text is a number, not a string", {"id": "b", "text": 7}),
    ("the text is missing, not a string", {"id": "c", "text": None}),
    ("the text is empty", {"id": "d", "text": ""}),
    ("the text is blank", {"id": "e", "text": " \t\u3000"}),
    ("the text has 61 bytes, more than the limit of 60", {"id": "f", "text": "x" * 61}),
    ("the text has a lone surrogate at character 2", {"id": "g", "text": "ab\ud83d"}),
    ("the id has come before", {"id": "a", "text": "A second text of the same id."}),
    ("the id is missing", {"id": None, "text": "A text without an id."}),
    (None, {"id": "nul", "text": "A NUL\0is valid."}),
    (None, {"id": "last", "text": "蓝天白云。"}),
]

#: What only a file can hold: no JSON object, no such field, nothing at all.
LINES: list[tuple[str, bytes]] = [
    ("missing field 'text'", b'{"id": "h", "words": "x"}'),
    ("missing field 'id'", b'{"text": "x"}'),
    ("no JSON object", b'["i", "a text"]'),
    ("no JSON object (not JSON at character 1)", b"<xml/>"),
    ("blank line", b""),
]


@pytest.fixture
def limited(shell: Shell) -> Shell:
    """A shell in which texts may have 60 bytes, with all the items in `items.jsonl`."""
    body = [json.dumps(item).encode() for _, item in KINDS] + [line for _, line in LINES]
    shell.write("items.jsonl", b"".join(line + b"\n" for line in body))
    return Shell(shell.data_dir, shell.cwd, {"EMBEDMILL_MAX_TEXT_BYTES": str(LIMIT)})


def test_refuse_names_every_bad_line_and_accepts_nothing(limited: Shell) -> None:
    # Given a file with every kind of invalid item, when submitted by default
    before = limited.rows()
    ran = limited("submit", "items.jsonl", "--id-field", "id", "--wait")
    # Then every bad line is named with its reason, no good one, and nothing was kept
    reasons = [reason for reason, _ in KINDS] + [reason for reason, _ in LINES]
    expected = [f"  line {i}: {reason}" for i, reason in enumerate(reasons, 1) if reason]
    assert (ran.code, ran.out) == (2, "")
    assert [line for line in ran.err.splitlines() if line.startswith("  ")] == expected
    assert "13 invalid items, nothing was accepted" in ran.err and "--on-invalid keep" in ran.err
    assert limited.rows() == before


def test_refuse_reports_the_first_hundred_and_then_the_count(alone: Shell) -> None:
    # Given 150 blank lines among texts, when submitted
    alone.write("gaps.txt", "a text\n" + "\n" * 150 + "the last text\n")
    ran = alone("submit", "gaps.txt")
    # Then a hundred are told, and how many more
    assert ran.code == 2 and ran.err.count("the text is empty") == 100
    assert "150 invalid items" in ran.err and "... and 50 more" in ran.err
    assert "line 2: the text is empty" in ran.err and "line 101:" in ran.err and "line 102:" not in ran.err
    assert alone.rows() == (0, 0, 0)


def test_keep_gives_each_bad_item_its_error_at_its_place(limited: Shell) -> None:
    # Given the same file, when submitted with keep
    ran = limited("submit", "items.jsonl", "--id-field", "id", "--on-invalid", "keep", "--wait")
    assert ran.code == 1 and "13 items failed" in ran.err
    # Then every item has exactly one outcome, each reason at its place
    written = limited("results", ran.job_id, "-o", "-", "--output-format", "jsonl")
    outcomes = [json.loads(line) for line in written.out.splitlines()]
    reasons = [reason for reason, _ in KINDS] + [reason for reason, _ in LINES]
    assert [outcome["position"] for outcome in outcomes] == list(range(len(reasons)))
    for reason, outcome in zip(reasons, outcomes, strict=True):
        _is_judged(reason, outcome["status"], outcome["error"])
    # And the status adds up
    with Client(data_dir=limited.data_dir) as client:
        status = client.job(ran.job_id).status()
    assert (status.state, status.succeeded, status.failed, status.pending) == ("completed", 3, 13, 0)
    # And a retry finds nothing to do: what is invalid stays so
    again = limited("retry", ran.job_id)
    assert again.code == 0 and "No failed item can be tried again" in again.err


def test_python_judges_as_the_shell_does(limited: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given the same items as Python objects
    monkeypatch.setenv("EMBEDMILL_MAX_TEXT_BYTES", str(LIMIT))
    items: list[Any] = [item for _, item in KINDS]
    texts, ids = [item["text"] for item in items], [item["id"] for item in items]
    reasons = [reason for reason, _ in KINDS]
    before = limited.rows()
    with Client(data_dir=limited.data_dir) as client:
        # When submitted by default
        with pytest.raises(InvalidItems) as refused:
            client.submit(texts, ids=ids)
        # Then every bad item is reported with its position and nothing was kept
        told = {problem.position: problem.reason for problem in refused.value.problems}
        assert told == {i: reason for i, reason in enumerate(reasons) if reason}
        assert refused.value.count == len(told) and limited.rows() == before
        # When submitted with keep, then each has its error at its place
        job = client.submit(texts, ids=ids, on_invalid="keep")
        for reason, outcome in zip(reasons, job.results(), strict=True):
            error = outcome.error
            _is_judged(reason, outcome.status, error and {"code": error.code, "message": error.message})


@pytest.mark.parametrize(("ids", "problem"), [("a", "fewer ids than texts"), ("abc", "more ids than texts")])
def test_python_refuses_ids_that_do_not_fit_the_texts(shell: Shell, ids: str, problem: str) -> None:
    # Given two texts, when submitted with another number of ids
    before = shell.rows()
    with Client(data_dir=shell.data_dir) as client, pytest.raises(InvalidItems, match=problem):
        client.submit(["one text", "another"], ids=list(ids))
    # Then nothing was kept
    assert shell.rows() == before


def _is_judged(reason: str | None, status: str, error: dict[str, str] | None) -> None:
    if reason is None:
        assert (status, error) == ("succeeded", None)
    else:
        assert error is not None
        assert (status, error["code"]) == ("failed", "invalid_item")
        assert reason in error["message"]
