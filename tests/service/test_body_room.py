"""Large bodies are kept in memory: of those who may send them, and no more than there is room for."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from producer.api import bodylimits, bodyroom
from producer.api.bodies import parsed
from producer.api.bodyroom import FREE, BodyRoom
from producer.api.schemas import JobIn
from producer.api.settings import ApiSettings
from storage.contract.errors import Overloaded
from tests.acceptance.shell import until
from tests.service.serving import Served, serving

#: Largest body, in bytes; there is room for sixteen such.
MOST = 500_000

#: Nearly the largest, and valid.
LARGE = json.dumps({"texts": ["rye " * 10_000] * 12}).encode()

_HEAD = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Served]:
    """A service that takes bodies of half a megabyte, over an empty database."""
    with serving(ApiSettings.load(data_dir=tmp_path, max_body_bytes=MOST)) as served:
        yield served


def test_there_is_room_for_some_large_bodies_at_a_time_and_always_for_small_ones(roomy: Served) -> None:
    answers: list[httpx.Response] = []
    with roomy.http() as http, ExitStack() as senders:

        def is_full() -> bool:
            # (who is refused gives way to the next, so that one is not enough for each)
            wire = senders.enter_context(_connected(roomy))
            wire.sendall(_HEAD.format(len(LARGE)).encode() + LARGE[:-1])
            answers.append(_sent(http, LARGE))
            return answers[-1].status_code == 429

        # Given more and more who send all of a large body but its end
        # When one more comes at last, then he is asked to come again, while small ones are taken
        until(is_full, "that the room is full")
        refused = answers[-1]
        assert refused.json()["error"]["code"] == "overloaded" and 2 <= int(refused.headers["Retry-After"]) <= 5
        assert _sent(http, b'{"texts": ["rye"]}').status_code == 202
        # And once the others are gone, there is room again
        senders.close()
        until(lambda: _sent(http, LARGE).status_code == 202, "that there is room")


def test_of_bodies_that_meet_where_there_is_no_room_for_all_only_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service with room for two bodies
    monkeypatch.setattr(bodyroom, "_memory", lambda: 4 * 8 * MOST)
    settings = ApiSettings.load(data_dir=tmp_path, max_body_bytes=MOST)
    with serving(settings) as served, ExitStack() as senders:
        wires = [senders.enter_context(_connected(served)) for _ in range(3)]
        for wire in wires:
            wire.sendall(_HEAD.format(len(LARGE)).encode())
        # When three come side by side
        for start in range(0, len(LARGE) - 1, 20_000):
            for wire in wires:
                wire.sendall(LARGE[start : min(start + 20_000, len(LARGE) - 1)])
            time.sleep(0.005)
        # Then one is refused, whose room is the others', although he neither reads nor goes
        select.select(wires, [], [], 60)
        for wire in wires:
            wire.sendall(LARGE[-1:])
        assert sorted(wire.recv(12) for wire in wires) == [b"HTTP/1.1 202", b"HTTP/1.1 202", b"HTTP/1.1 429"]


def test_a_body_that_is_refused_is_kept_no_longer_than_its_answer_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given somebody who stays when he is refused, for what he sent as a whole
    monkeypatch.setattr(bodylimits, "_DRAIN_SECONDS", 600)
    body = json.dumps({"texts": ["rye " * 2_000_000]}).encode("utf-16")
    with serving(ApiSettings.load(data_dir=tmp_path)) as served, _connected(served) as wire:
        tracemalloc.start()
        try:
            wire.sendall(_HEAD.format(len(body)).encode() + body)
            assert wire.recv(12) == b"HTTP/1.1 400"
            # Then nothing is left of it, while more may come
            until(lambda: tracemalloc.get_traced_memory()[0] < 5_000_000, "that the body is gone")
        finally:
            tracemalloc.stop()


def test_bodies_of_one_key_leave_room_for_those_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a service with room for two bodies, and a key that holds some of it
    monkeypatch.setattr(bodyroom, "_memory", lambda: 4 * 8 * MOST)
    settings = ApiSettings.load(data_dir=tmp_path, max_body_bytes=MOST, auth="keys")
    with serving(settings) as served:
        keys = served.service.stores.keys
        (record, reader), (_, miller) = keys.create("reader", ["read"]), keys.create("miller")
        served.loop_call(lambda: served.service.body_room.body(record.id).add(len(LARGE)))
        with served.http(reader) as his, served.http(miller) as http:
            # When one more comes of it, then it is refused, and says why
            refused = _sent(his, LARGE)
            assert refused.status_code == 429 and "of this API key" in refused.json()["error"]["message"]
            # But another key finds room, and small bodies need none (which lack the scope)
            assert _sent(http, LARGE).status_code == 202
            assert _sent(his, b'{"texts": ["rye"]}').status_code == 403


def test_a_slow_body_that_leaves_no_room_for_another_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service with room for one body, on a clock that goes five times as fast, and one that comes slowly
    monkeypatch.setattr(bodyroom, "_memory", lambda: 1)
    monkeypatch.setattr(bodylimits, "time", SimpleNamespace(monotonic=lambda: 5 * time.monotonic()))
    settings = ApiSettings.load(data_dir=tmp_path, max_body_bytes=MOST, body_seconds=30)
    with serving(settings) as served, _connected(served) as wire, ThreadPoolExecutor(1) as sender, ExitStack() as stack:
        gone = threading.Event()
        stack.callback(gone.set)
        wire.sendall(_HEAD.format(len(LARGE)).encode() + LARGE[:300_000])
        until(lambda: served.service.body_room.is_crowded, "that it is read")
        answered = sender.submit(_dribbled, wire, gone)
        with served.http() as http:
            # When another comes, then it finds room, for the first one is told why it was cut
            until(lambda: _sent(http, LARGE).status_code == 429, "that the room is full")
            assert answered.result() == b"HTTP/1.1 408"
            assert _sent(http, LARGE).status_code == 202
            # While a small one may be slow
            assert _sent(http, _slowly(b'{"texts": ["rye"]}')).status_code == 202


@pytest.mark.parametrize("length", ["Content-Length: 400000", "Content-Length: 10", "Transfer-Encoding: chunked"])
def test_with_keys_no_body_is_read_of_one_who_has_none(tmp_path: Path, length: str) -> None:
    with serving(ApiSettings.load(data_dir=tmp_path, auth="keys")) as served, _connected(served) as wire:
        # Given somebody with a bad key
        head = _HEAD.replace("Content-Length: {}", length + "\r\nAuthorization: Bearer em_x_y")
        # When he begins to send, then he is refused before he has sent anything
        wire.sendall(head.encode())
        assert wire.recv(12) == b"HTTP/1.1 401"


def test_with_keys_what_needs_none_is_answered_whatever_body_it_has(tmp_path: Path) -> None:
    with serving(ApiSettings.load(data_dir=tmp_path, auth="keys")) as served, served.http() as http:
        # Given somebody without a key, when he sends a body where none is looked at, then he is answered all the same
        assert http.request("GET", "/healthz", json={}).status_code == 200
        assert http.post("/nowhere", json={}).status_code == 404
        assert http.put("/v1/jobs", json={}).status_code == 405
        # But not where a key is needed
        assert http.post("/embed", json={"inputs": "rye"}).status_code == 401
        assert http.request("GET", "/v1/jobs", json={}).status_code == 401


def test_bodies_fit_the_memory_of_a_small_container() -> None:
    # Given a container of a gigabyte, and the largest bodies that are taken by default
    room = BodyRoom(32_000_000, memory=1 << 30)
    bodies = [room.body() for _ in range(3)]
    # When they come, then there is room for two of them, and for a third once one has gone
    for body in bodies[:2]:
        body.add(32_000_000)
    with pytest.raises(Overloaded):
        bodies[2].add(32_000_000)
    bodies[0].leave()
    bodies[2].add(32_000_000)
    # And in the smallest one there is room for one, whatever is in it
    BodyRoom(32_000_000, memory=1 << 20).body().add(32_000_000, names=1_000_000)


def test_a_key_takes_half_of_the_room_at_most_but_one_body_of_any_size() -> None:
    # Given room for sixteen bodies
    room = BodyRoom(1_000_000, memory=1 << 40)
    # When a key sends as many as it may, then these are half
    bodies = [room.body("miller") for _ in range(16)]
    taken = 0
    with pytest.raises(Overloaded):
        for body in bodies:
            body.add(1_000_000)
            taken += 1
    assert taken == 8
    # And another has half of what is left; what is small needs no room
    baker = [room.body("baker") for _ in range(4)]
    for body in baker:
        body.add(1_000_000)
    with pytest.raises(Overloaded):
        room.body("baker").add(1_000_000)
    room.body("miller").add(FREE)
    # But a key's only body finds whatever there is
    for number in range(5):
        assert not room.is_crowded
        room.body(f"traveller {number}").add(1_000_000)
    assert room.is_crowded
    # And once all have gone there is room for all again
    for body in (*bodies, *baker):
        body.leave()
    room.body("miller").add(1_000_000)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"texts": ["a" * 999 + "😀"] * 1_000}, id="a wide letter in each text"),
        pytest.param({"texts": ["磨" * 300] * 1_000}, id="Chinese"),
        pytest.param({"texts": ["a" * 1_000] * 1_000}, id="long texts"),
        pytest.param({"texts": [f"rye {number}" for number in range(30_000)]}, id="short texts"),
        pytest.param({"items": [{"text": "a"}] * 30_000}, id="many items"),
        pytest.param({"items": [{"id": str(number), "text": "a"} for number in range(30_000)]}, id="items with ids"),
    ],
)
def test_what_is_counted_is_what_a_body_takes_once_it_is_parsed(asked: dict[str, Any]) -> None:
    # Given a body, and the memory that is counted for it
    body, room = json.dumps(asked, ensure_ascii=False).encode(), BodyRoom(32_000_000, memory=1 << 40)
    counted = room.needed(len(body) + FREE, body.count(b":"))
    # When it is parsed, then it takes hardly more
    tracemalloc.start()
    parsed(body, JobIn)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(body) + peak < 1.2 * counted


def _connected(served: Served) -> socket.socket:
    place = httpx.URL(served.url)
    return socket.create_connection((place.host, place.port or 80), 60)


def _dribbled(wire: socket.socket, gone: threading.Event) -> bytes:
    """Send a few bytes ten times a second for twenty seconds, or until an answer comes, and return how it begins."""
    for _ in range(200):
        if select.select([wire], [], [], 0)[0]:
            return wire.recv(12)
        if gone.wait(0.1):
            break
        wire.sendall(b"rye ")
    return b"let go"


def _slowly(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 4):
        time.sleep(0.1)
        yield body[start : start + 4]


def _sent(http: httpx.Client, body: bytes | Iterator[bytes]) -> httpx.Response:
    return http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
