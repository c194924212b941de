"""Large bodies are kept in memory: of those who may send them, and no more than there is room for."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from producer.api.settings import ApiSettings
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


@pytest.mark.parametrize("length", ["Content-Length: 400000", "Transfer-Encoding: chunked"])
def test_with_keys_no_large_body_is_read_of_one_who_has_none(tmp_path: Path, length: str) -> None:
    with serving(ApiSettings.load(data_dir=tmp_path, auth="keys")) as served, _connected(served) as wire:
        # Given somebody with a bad key
        head = _HEAD.replace("Content-Length: {}", length + "\r\nAuthorization: Bearer em_x_y")
        # When he begins to send, then he is refused before he has sent anything
        wire.sendall(head.encode())
        assert wire.recv(12) == b"HTTP/1.1 401"


def _connected(served: Served) -> socket.socket:
    place = httpx.URL(served.url)
    return socket.create_connection((place.host, place.port or 80), 60)


def _sent(http: httpx.Client, body: bytes) -> httpx.Response:
    return http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
