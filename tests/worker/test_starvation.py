"""A process that takes no messages although some wait, told from one that is merely idle or busy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from storage.contract.broker import KEY_PREFIX
from worker.starvation import Starvation

QUEUE = "starving.0a.bulk"


@pytest.fixture
def messages(redis_server: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(redis_server)
    yield client
    client.delete(KEY_PREFIX + QUEUE)
    client.close()


def test_an_idle_process_beside_waiting_messages_starves(redis_server: str, messages: redis.Redis) -> None:
    starvation = Starvation(redis_server, [QUEUE], idle_for=lambda: 60.0, patience=0.0)
    messages.lpush(KEY_PREFIX + QUEUE, "waits")
    assert starvation.found() is False  # seen for the first time
    assert starvation.found() is True


def test_patience_begins_with_the_messages_not_with_idleness(redis_server: str, messages: redis.Redis) -> None:
    starvation = Starvation(redis_server, [QUEUE], idle_for=lambda: 3600.0, patience=30.0)
    messages.lpush(KEY_PREFIX + QUEUE, "waits")
    assert [starvation.found() for _ in range(3)] == [False] * 3


def test_a_busy_process_does_not_starve(redis_server: str, messages: redis.Redis) -> None:
    starvation = Starvation(redis_server, [QUEUE], idle_for=lambda: 0.0, patience=0.0)
    messages.lpush(KEY_PREFIX + QUEUE, "waits")
    assert [starvation.found() for _ in range(3)] == [False] * 3


def test_an_idle_process_without_messages_does_not_starve(redis_server: str) -> None:
    starvation = Starvation(redis_server, [QUEUE], idle_for=lambda: 60.0, patience=0.0)
    assert [starvation.found() for _ in range(3)] == [False] * 3


def test_nobody_starves_while_redis_is_away() -> None:
    starvation = Starvation("unix:///nowhere/redis.sock", [QUEUE], idle_for=lambda: 60.0, patience=0.0)
    assert [starvation.found() for _ in range(3)] == [False] * 3
