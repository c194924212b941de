"""Large bodies are kept in memory: of those who may send them, and no more than there is room for."""

from __future__ import annotations

import json
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from producer.api.bodies import parsed
from producer.api.bodyroom import FREE, BodyRoom
from producer.api.schemas import JobIn
from producer.api.settings import ApiSettings
from storage.contract.errors import Overloaded
from tests.acceptance.shell import until
from tests.service.serving import Served, serving

#: Largest body, in bytes; there is room for sixteen such.
MOST = 500_000

_HEAD = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Served]:
    """A service that takes bodies of half a megabyte, over an empty database."""
    with serving(ApiSettings.load(data_dir=tmp_path, max_body_bytes=MOST)) as served:
        yield served


def test_there_is_room_for_some_large_bodies_at_a_time_and_always_for_small_ones(roomy: Served) -> None:
    large = json.dumps({"texts": ["rye " * 10_000] * 12}).encode()
    with roomy.http() as http, ExitStack() as senders:
        # Given many who send all of a large body but its end
        for _ in range(20):
            wire = senders.enter_context(_connected(roomy))
            wire.sendall(_HEAD.format(len(large)).encode() + large[:-1])
        # When one more comes, then he is asked to come again, while small ones are taken
        until(lambda: _sent(http, large).status_code == 429, "that the room is full")
        refused = _sent(http, large)
        assert refused.json()["error"]["code"] == "overloaded" and refused.headers["Retry-After"] == "2"
        assert _sent(http, b'{"texts": ["rye"]}').status_code == 202
        # And once the others are gone, there is room again
        senders.close()
        until(lambda: _sent(http, large).status_code == 202, "that there is room")


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


def _sent(http: httpx.Client, body: bytes) -> httpx.Response:
    return http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
