"""Submitting never needs Redis: whatever it does, the job is safe, the call returns, and says what is the matter."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from embedmill import Client
from storage.contract.errors import WaitTimeout
from storage.redisclient import redis_client
from storage.stores import Stores
from tests.patience import patiently
from tests.servers import running_redis
from tests.storage.builders import CARD, serve

#: Longest time that anything here may take, in seconds; generous, as the machine may be busy. It takes about one, and
#: whoever waited for such a Redis would wait for ever.
SOON = 45.0


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_redis() as url:
        yield url


@pytest.fixture
def hole() -> Iterator[str]:
    """Address of something that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def assert_safe(url: str, folder: Path, told: str) -> None:
    """Submit a few times and wait for a moment; nothing of it may take long."""
    with Client(data_dir=folder, redis_url=url, model=CARD.name) as client:
        serve(client._stores)
        began = time.monotonic()
        jobs = [client.submit(["a text"], priority=priority) for priority in ("bulk", "urgent", "bulk")]
        assert time.monotonic() - began < SOON
        assert [job.notice for job in jobs] == [
            f"{told}: the job is safe and starts when Redis takes messages again."
        ] * 3
        assert [job.status().state for job in jobs] == ["queued"] * 3
        # And those who wait are not held up by the hint they would like to hear
        began = time.monotonic()
        with pytest.raises(WaitTimeout):
            jobs[0].wait(timeout=0.1)
        client._hints.publish([job.id for job in jobs])
        # And the chunks are pending, so that whoever comes next sends them
        assert sendable(client._stores) == 3
    assert time.monotonic() - began < SOON


def sendable(stores: Stores) -> int:
    return sum(len(stores.chunks.dispatch(CARD.id, priority)) for priority in (0, 1))


def test_redis_is_down(tmp_path: Path) -> None:
    assert_safe("redis://127.0.0.1:1/0", tmp_path, "Redis cannot be reached")


def test_redis_takes_connections_and_never_answers(hole: str, tmp_path: Path) -> None:
    assert_safe(f"redis://{hole}/0", tmp_path, "Redis cannot be reached")


def test_no_sentinel_answers(hole: str, tmp_path: Path) -> None:
    assert_safe(f"redis+sentinel://{hole},{hole},{hole}/mill", tmp_path, "Redis cannot be reached")


def test_redis_is_stopped(server: str, tmp_path: Path) -> None:
    with redis_client(server) as client:
        pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert_safe(server, tmp_path, "Redis cannot be reached")
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("change", "mend", "told"),
    [
        (
            lambda client: client.config_set("maxmemory", "1"),
            lambda client: client.config_set("maxmemory", "0"),
            "Redis is out of memory and takes no messages",
        ),
        (
            lambda client: client.replicaof("127.0.0.1", "1"),
            lambda client: client.replicaof("NO", "ONE"),
            "Redis is a read-only replica and takes no messages",
        ),
        (
            lambda client: client.config_set("requirepass", "secret"),
            lambda client: client.config_set("requirepass", ""),
            "Redis does not know this user, or the password is another",
        ),
    ],
    ids=["out of memory", "read-only", "locked"],
)
def test_redis_refuses(
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[redis.Redis], object],
    mend: Callable[[redis.Redis], object],
    told: str,
) -> None:
    monkeypatch.setattr("producer.queue.sender_settings", patiently)
    with redis_client(server) as client:
        change(client)
        try:
            assert_safe(server, tmp_path, told)
        finally:
            mend(client)


def test_a_client_that_has_known_redis_finds_it_again_after_its_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.queue.sender_settings", patiently)
    with running_redis() as url, Client(data_dir=tmp_path, redis_url=url, model=CARD.name) as client:
        serve(client._stores)
        assert client.submit(["a text"]).notice is None
        # Given a Redis that ends, and is started again by its keeper
        with redis_client(url) as control:
            pid = control.info("server")["process_id"]
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        with redis_client(url) as control:
            while True:
                try:
                    if control.info("server")["process_id"] != pid:
                        break
                except redis.RedisError:
                    assert time.monotonic() < deadline
                time.sleep(0.05)
        # Then the same client sends over a new connection, at once
        assert client.submit(["another"]).notice is None
