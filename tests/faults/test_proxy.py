"""The proxy misbehaves as it says."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.shell import until
from tests.faults.proxy import Proxy


@pytest.fixture
def echo() -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers each line with the same; its port, and what it has received."""
    listener = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1000):
                    received.append(data)
                    connection.sendall(data)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1], received
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def proxy(echo: tuple[int, list[bytes]]) -> Iterator[Proxy]:
    proxy = Proxy(echo[0])
    yield proxy
    proxy.close()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connected(proxy) as connection:
        assert asked(connection, b"hello") == b"hello"
        yield connection


def connected(proxy: Proxy) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=60)
    connection.settimeout(60)
    return connection


def asked(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return connection.recv(1000)


def is_silent(connection: socket.socket) -> bool:
    connection.settimeout(0.4)
    try:
        connection.recv(1000)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(60)
    return False


def test_a_hole_swallows_and_never_recovers(proxy: Proxy, client: socket.socket) -> None:
    proxy.hole()
    client.sendall(b"lost")
    assert is_silent(client)
    with connected(proxy) as other:
        other.sendall(b"lost too")
        assert is_silent(other)
    until(lambda: proxy.swallowed >= len(b"lost" + b"lost too"), "all to be swallowed")
    assert proxy.swallowed == len(b"lost" + b"lost too")
    proxy.heal()
    client.sendall(b"lost as well")
    assert is_silent(client)
    with connected(proxy) as other:
        assert asked(other, b"again") == b"again"


def test_a_hole_may_take_only_connections_that_are_there(proxy: Proxy, client: socket.socket) -> None:
    proxy.hole(new=False)
    client.sendall(b"lost")
    assert is_silent(client)
    with connected(proxy) as other:
        assert asked(other, b"heard") == b"heard"


def test_what_is_frozen_arrives_late(proxy: Proxy, client: socket.socket) -> None:
    proxy.freeze()
    client.sendall(b"late")
    assert is_silent(client)
    proxy.heal()
    assert client.recv(1000) == b"late"


def test_a_reset_is_a_reset(proxy: Proxy, client: socket.socket) -> None:
    proxy.reset(new=True)
    with pytest.raises(ConnectionError):
        assert asked(client, b"x") == b"x"
    assert proxy.cut == 1
    with pytest.raises(ConnectionError), connected(proxy) as other:
        assert asked(other, b"x") == b"x"
    proxy.heal()
    with connected(proxy) as other:
        assert asked(other, b"x") == b"x"


def test_a_reset_comes_through_whatever_the_proxy_is_at(proxy: Proxy, client: socket.socket) -> None:
    # Given a connection of which the proxy is in the midst of a read that has no end of its own
    (link,) = proxy._links
    for _ in range(30):  # by when its last read with an end is over
        link.client.settimeout(None)
        time.sleep(0.01)
    # When it is cut, then the client sees it, although nothing is sent any more
    client.settimeout(20)
    proxy.reset()
    with pytest.raises(ConnectionError):
        client.recv(1000)


def test_a_delay_delays(proxy: Proxy, client: socket.socket) -> None:
    proxy.delay = 0.2
    start = time.monotonic()
    assert asked(client, b"slow") == b"slow"
    assert time.monotonic() - start >= 0.4
    assert proxy.late == 2 * len(b"slow")


@pytest.mark.parametrize("arrives", [True, False])
def test_the_reply_to_one_request_is_lost_and_the_request_may_be(
    proxy: Proxy, client: socket.socket, echo: tuple[int, list[bytes]], arrives: bool
) -> None:
    # Given a proxy that waits for a word
    if arrives:
        proxy.drop_reply(b"COMMIT")
    else:
        proxy.drop_request(b"COMMIT")
    assert asked(client, b"INSERT") == b"INSERT"
    # When it comes
    client.sendall(b"COMMIT")
    # Then the connection breaks, and whether the server has seen the word is as it was asked for
    with pytest.raises(ConnectionError):
        assert client.recv(1000) == b"COMMIT"
    assert proxy.dropped.wait(60)
    if arrives:
        until(lambda: b"COMMIT" in echo[1], "the word to arrive")
    assert (b"COMMIT" in echo[1]) == arrives
    # And the next one goes through
    with connected(proxy) as other:
        assert asked(other, b"COMMIT") == b"COMMIT"
