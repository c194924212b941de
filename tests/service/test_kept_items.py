"""Invalid items that are kept have the same outcomes over storage and over HTTP, at once and in parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from embedmill import Client
from producer.anyjob import AnyJob
from producer.records import Record
from producer.remote import upload
from tests.service.serving import Served

#: What may stand where a text should be.
TEXTS: list[Any] = [
    "The mill grinds.",
    {"text": "hidden in an object"},
    {"id": "b", "text": "hidden with an id"},
    None,
    7,
    b"bytes",
    "",
    "  ",
    "a \ud800 surrogate",
    ["a list"],
    float("nan"),
    "Rye.",
]

_REFUSED = "Refused at the door: "


@pytest.fixture(params=["storage", "http at once", "http in parts"])
def way(request: pytest.FixtureRequest, clients: dict[str, Client], monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client, and how much it sends at once."""
    if request.param == "http in parts":
        monkeypatch.setattr(upload, "AT_ONCE", 10)
        monkeypatch.setattr(upload, "PART", 60)
    return clients[request.param.split()[0]]


def _ended(job: AnyJob) -> list[tuple[str | None, str, str | None]]:
    """Return of each item its id, its status and what was wrong with it."""
    job.wait(60)
    found = [(one.id, one.status, _reason(one.error.message) if one.error else None) for one in job.results()]
    job.delete()
    return found


def _reason(message: str) -> str:
    assert message.startswith(_REFUSED) and message.endswith("."), message
    return message.removeprefix(_REFUSED)[:-1]


def test_what_is_no_text_is_that_items_error(way: Client) -> None:
    found = _ended(way.submit(TEXTS, on_invalid="keep", priority="urgent"))
    assert [status for _, status, _ in found] == ["succeeded", *["failed"] * 10, "succeeded"]
    assert {custom_id for custom_id, _, _ in found} == {None}
    assert found[1][2] == found[2][2] == "the text is an object, not a string"
    assert found[5][2] == "the text is bytes, not a string" and found[8][2] is not None
    assert found[8][2] == "the text has a lone surrogate at character 2"


def test_what_is_no_id_is_that_items_error_and_others_keep_theirs(way: Client) -> None:
    ids: list[Any] = ["a", "b", 7, "a", None, "f", "g", "h" * 513, "\0", "\ud800", "", True]
    found = _ended(way.submit(TEXTS, ids=ids, on_invalid="keep", priority="urgent"))
    assert [one[:2] for one in found[:4]] == [
        ("a", "succeeded"), ("b", "failed"), ("", "failed"), ("a", "failed")
    ]  # fmt: skip
    assert found[2][2] == "the text is an object, not a string" and found[5][0] == "f"
    assert found[11] == ("", "failed", "the id is a truth value, not a string")


def test_ids_that_are_all_missing_make_a_job_whose_items_failed(way: Client) -> None:
    ids: list[Any] = [None, None]
    found = _ended(way.submit(["rye", "wheat"], ids=ids, on_invalid="keep", priority="urgent"))
    assert found == [("", "failed", "the id is missing")] * 2


@pytest.mark.parametrize("with_ids", [False, True])
def test_a_readers_own_reason_is_that_items_error(way: Client, with_ids: bool) -> None:
    # Given a reader that found no field in one line, and half a character in another
    records = [
        Record("Rye.", "a" if with_ids else None, "line 1"),
        Record(None, "b" if with_ids else None, "line 2", "missing field 'text'"),
        Record(None, None, "line 3", "not UTF-8 at byte 7"),
    ]
    # When what it read is submitted, then each bad line is told by its reason
    found = _ended(way.submit_records(iter(records), with_ids=with_ids, on_invalid="keep", priority="urgent"))
    reasons = [None, "missing field 'text'", "not UTF-8 at byte 7"]
    assert [reason for _, _, reason in found] == reasons
    assert [custom_id for custom_id, _, _ in found] == (["a", "b", ""] if with_ids else [None] * 3)


@pytest.fixture
def sent(http: httpx.Client, served: Served) -> Iterator[Any]:
    """Sends items in a body or as lines, to be kept, and returns why each is invalid."""
    yield lambda **request: _ended(
        served.service.client.job(http.post("/v1/jobs?on_invalid=keep&priority=urgent", **request).json()["id"])
    )


def test_programs_may_say_a_problem_in_place_of_a_text(sent: Any) -> None:
    # Given items of which the program that sends them knows what is wrong, in a body and as lines
    lines = [
        b'{"id": "a", "text": "Rye."}',
        b'{"id": "b", "problem": "smudged"}',
        b'{"id": "c", "problem": 7}',
        b'{"id": "d"}',
        b'{"id": "e", "problem": "%b"}' % (b"x" * 600),
    ]
    body = b'{"items": [' + b",".join(lines) + b"]}"
    # Then that is each one's error, cut where it is long, and what is no reason counts as a missing text
    for answered, missing in (
        (sent(content=body, headers={"Content-Type": "application/json"}), "the text is missing, not a string"),
        (sent(content=b"\n".join(lines), headers={"Content-Type": "application/x-ndjson"}), "missing field 'text'"),
    ):
        assert [reason for _, _, reason in answered] == [None, "smudged", missing, missing, "x" * 500]
        assert [custom_id for custom_id, _, _ in answered][:2] == ["a", "b"]


def test_a_line_with_a_text_may_have_a_field_called_so(sent: Any) -> None:
    line = b'{"text": "Rye.", "problem": "none of ours"}'
    assert sent(content=line, headers={"Content-Type": "application/x-ndjson"}) == [(None, "succeeded", None)]
