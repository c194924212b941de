"""What keys share is shared: one that takes all it gets leaves others their places."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from producer.api import uploading
from producer.api.settings import ApiSettings
from producer.api.shares import Shares
from storage.contract.errors import Overloaded
from storage.quotas import Quota
from tests.acceptance.shell import until
from tests.producer.test_patience import LONG, set_debt
from tests.service.serving import Served, serving
from tests.storage.builders import CARD, serve
from tests.storage.test_quotas import freeze

NDJSON = {"Content-Type": "application/x-ndjson"}

_FULL = ("All places are taken.", "Come again.", 5)


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Served]:
    """A service with keys and few places, over an empty database."""
    with serving(ApiSettings.load(data_dir=tmp_path, auth="keys", max_streams=4, max_calls=2)) as served:
        yield served


def key_of(served: Served, name: str) -> tuple[str, str]:
    """Return id and text of a new key."""
    record, key = served.service.stores.keys.create(name, ("read", "write", "embed"))
    return record.id, key


def taken_by(shares: Shares, key_id: str) -> int:
    """Take as many places as a key gets; return how many."""
    for number in range(1_000):
        try:
            shares.take(key_id)
        except Overloaded:
            return number
    raise AssertionError("there is no end of places")


def until_taken(number: int) -> None:
    """Wait until so many bodies are being taken in."""
    until(lambda: uploading.places.taken == number, f"{number} places to be taken")


def test_a_key_holds_no_more_places_than_are_free() -> None:
    # Given places of which each key takes what it gets
    shares = Shares(32, _FULL)
    # Then each finds some, half of those that are left, until there is none
    assert [taken_by(shares, f"key {number}") for number in range(7)] == [16, 8, 4, 2, 1, 1, 0]
    assert shares.is_crowded and shares.taken == 32
    with pytest.raises(Overloaded, match="All places are taken"):
        shares.take("key 7")
    # And what one gives back is there for the next
    shares.leave("key 0")
    assert taken_by(shares, "key 7") == 1
    # And without keys there is nobody to share with
    assert taken_by(Shares(32, _FULL), "") == 32


def test_a_key_that_was_refused_holds_nothing_and_a_block_gives_back() -> None:
    shares = Shares(1, _FULL)
    with shares.place("anna"), pytest.raises(Overloaded):
        shares.take("bert")
    with shares.place("bert"):
        assert shares.taken == 1
    assert shares.taken == 0


def test_one_key_does_not_take_all_streams_of_events(narrow: Served) -> None:
    (_, anna), (_, bert) = key_of(narrow, "anna"), key_of(narrow, "bert")
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(narrow.http(key)) for key in (anna, bert))
        job, other = (
            http.post("/v1/jobs", json={"texts": ["rye"]}).json()["links"]["events"] for http in (ours, theirs)
        )
        # Given a key that follows its job twice
        for _ in range(2):
            assert stack.enter_context(ours.stream("GET", job)).status_code == 200
        until(lambda: narrow.service.streams.open == 2, "both streams")
        # When it comes once more, then it is told what it has, while another finds a place
        refused = ours.get(job)
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
        assert "2 of 4 places" in refused.json()["error"]["message"]
        assert stack.enter_context(theirs.stream("GET", other)).status_code == 200


def test_one_key_does_not_take_all_places_of_uploads(narrow: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "places", Shares(4, _FULL))
    (_, anna), (_, bert) = key_of(narrow, "anna"), key_of(narrow, "bert")
    place = httpx.URL(narrow.url)
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: {place.host}\r\nAuthorization: Bearer {anna}\r\n"
    with ExitStack() as stack:
        # Given a key with two streams that do not end
        for number in range(1, 3):
            wire = stack.enter_context(socket.create_connection((place.host, place.port or 80), 60))
            wire.sendall(f"{head}Content-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n".encode())
            until_taken(number)
        # When it sends one more, then it is asked to come again, while another's is taken
        with narrow.http(anna) as ours, narrow.http(bert) as theirs:
            assert ours.post("/v1/jobs", content=b'"rye"\n', headers=NDJSON).status_code == 429
            assert theirs.post("/v1/jobs", content=b'"rye"\n', headers=NDJSON).status_code == 202
    until_taken(0)


def test_who_waits_for_tokens_makes_room_for_others(narrow: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given few places, and a key with two streams that are all there and wait, since it owes a token
    monkeypatch.setattr(uploading, "places", Shares(4, _FULL))
    monkeypatch.setattr(uploading, "_ASK_AGAIN", 0.05)
    stores = narrow.service.stores
    serve(stores)
    record, anna = stores.keys.create("anna", ("read", "write"), quota=Quota(tokens_per_minute=1000))
    set_debt(stores.database, record.id, 1.0)
    freeze(stores.database, record.id)
    _, bert = key_of(narrow, "bert")
    place = httpx.URL(narrow.url)
    with ExitStack() as stack:
        ours = stack.enter_context(narrow.http(anna))
        callers = stack.enter_context(ThreadPoolExecutor(2))
        asked = {"content": b'"%s"\n' % (b"wheat " * 170) * LONG, "headers": NDJSON, "params": {"model": CARD.name}}
        waiting = [callers.submit(ours.post, "/v1/jobs", **asked) for _ in range(2)]  # type: ignore[arg-type]
        stack.callback(set_debt, stores.database, record.id, 0.0)
        until_taken(2)
        # When another key sends too, so that places become few
        wire = stack.enter_context(socket.create_connection((place.host, place.port or 80), 60))
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: {place.host}\r\nAuthorization: Bearer {bert}\r\n"
        wire.sendall(f"{head}Content-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n".encode())
        # Then one of the two is asked to come again
        done, others = wait(waiting, 90, FIRST_COMPLETED)
        (refused,) = [one.result() for one in done]
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
        until_taken(2)
        # And the other is accepted in the end
        set_debt(stores.database, record.id, 0.0)
        assert [one.result(90).status_code for one in others] == [202]
    until_taken(0)


def test_one_key_does_not_take_all_calls(narrow: Served) -> None:
    (key_id, anna), (_, bert) = key_of(narrow, "anna"), key_of(narrow, "bert")
    # Given a key with a call that waits
    with narrow.service.calls._places.place(key_id), narrow.http(anna) as ours, narrow.http(bert) as theirs:
        # When it calls once more, then it is asked to come again, while another's is taken (and nobody serves it)
        assert ours.post("/v1/embeddings", json={"input": "rye"}).status_code == 429
        assert theirs.post("/v1/embeddings", json={"input": "rye"}).status_code == 503
    # And once the first has its answer, there is a place again
    with narrow.http(anna) as ours:
        assert ours.post("/v1/embeddings", json={"input": "rye"}).status_code == 503
