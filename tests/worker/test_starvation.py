"""A process that takes no messages although some wait, told from one that is merely idle or busy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import redis

from storage.contract.broker import KEY_PREFIX
from storage.contract.errors import StorageUnavailable
from storage.redisclient import redis_client
from worker import starvation as starving
from worker.starvation import Starvation

QUEUE = "starving.0a.bulk"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis answers, however late."""
    monkeypatch.setattr(starving, "redis_client", partial(redis_client, timeout=60))


@pytest.fixture
def messages(redis_server: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(redis_server)
    yield client
    client.delete(KEY_PREFIX + QUEUE)
    client.close()


def test_an_idle_process_beside_waiting_messages_starves(redis_server: str, messages: redis.Redis) -> None:
    starvation = Starvation(redis_server, [QUEUE], lambda: 60.0, lambda: 0, patience=0.0)
    messages.lpush(KEY_PREFIX + QUEUE, "waits")
    assert starvation.found() is False  # seen for the first time
    assert starvation.found() is True


def test_patience_begins_with_the_messages_not_with_idleness(redis_server: str, messages: redis.Redis) -> None:
    starvation = Starvation(redis_server, [QUEUE], lambda: 3600.0, lambda: 0, patience=600.0)
    messages.lpush(KEY_PREFIX + QUEUE, "waits")
    assert [starvation.found() for _ in range(3)] == [False] * 3


def test_a_busy_process_does_not_starve(redis_server: str, messages: redis.Redis) -> None:
    starvation = Starvation(redis_server, [QUEUE], lambda: 0.0, lambda: 0, patience=0.0)
    messages.lpush(KEY_PREFIX + QUEUE, "waits")
    assert [starvation.found() for _ in range(3)] == [False] * 3


def test_an_idle_process_without_messages_does_not_starve(redis_server: str) -> None:
    starvation = Starvation(redis_server, [QUEUE], lambda: 60.0, lambda: 0, patience=0.0)
    assert [starvation.found() for _ in range(3)] == [False] * 3


def test_nobody_starves_while_redis_is_away() -> None:
    starvation = Starvation("unix:///nowhere/redis.sock", [QUEUE], lambda: 60.0, lambda: 0, patience=0.0)
    assert [starvation.found() for _ in range(3)] == [False] * 3


def test_an_idle_process_beside_busy_ones_that_empty_the_queue_is_told(redis_server: str) -> None:
    # Given messages that are out all the time, of which none is ever seen in Redis
    starvation = Starvation(redis_server, [QUEUE], lambda: 60.0, lambda: 3, patience=0.0)
    starvation.found()
    assert starvation.found()


def test_a_process_that_has_just_become_idle_or_a_database_that_is_away_is_no_starvation(redis_server: str) -> None:
    def away() -> int:
        raise StorageUnavailable("away")

    for idle, out in ((1.0, lambda: 3), (60.0, away)):
        starvation = Starvation(redis_server, [QUEUE], lambda idle=idle: idle, out, patience=0.0)  # type: ignore[misc]
        starvation.found()
        assert not starvation.found()
