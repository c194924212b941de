"""What an operator is told of a Redis that will lose or refuse messages."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from storage.checkups import onredis
from storage.redisclient import redis_client
from tests.servers import running_redis
from worker.brokercheck import findings


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with running_redis() as url, redis_client(url, timeout=60) as client:
        yield client


@pytest.fixture
def setting(client: redis.Redis) -> Iterator[Any]:
    """Changes the server's configuration for one test."""
    before: dict[str, Any] = {}

    def change(name: str, value: str) -> None:
        before.update(client.config_get(name))
        client.config_set(name, value)

    yield change
    for name, value in before.items():
        client.config_set(name, value)


def test_there_is_nothing_to_say_of_the_embedded_server(client: redis.Redis) -> None:
    assert findings(client) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, "SET maxmemory-policy noeviction"),
        ({"maxmemory": "1000000"}, "70% of its maxmemory"),
        ({"appendonly": "no", "save": ""}, "SET appendonly yes"),
    ],
)
def test_each_danger_is_told_with_what_to_do(
    client: redis.Redis, setting: Any, changes: dict[str, str], told: str
) -> None:
    for name, value in changes.items():
        setting(name, value)
    (finding,) = findings(client)
    assert told in finding
    # And it stays the same sentence, so that it is told once
    assert findings(client) == [finding]


def test_room_that_is_plenty_and_snapshots_instead_of_a_log_are_fine(client: redis.Redis, setting: Any) -> None:
    setting("maxmemory", "1000000000")
    setting("appendonly", "no")
    setting("save", "3600 1")
    assert findings(client) == []


def test_a_replica_is_told_of(client: redis.Redis) -> None:
    client.replicaof("127.0.0.1", "1")
    (finding,) = findings(client)
    client.replicaof("NO", "ONE")
    assert "replica" in finding and findings(client) == []


def test_a_user_who_may_not_ask_is_told_what_to_grant(client: redis.Redis) -> None:
    path = client.connection_pool.connection_kwargs["path"]
    client.execute_command("ACL", "SETUSER", "miller", "on", "nopass", "~*", "&*", "+@all", "-config")
    with redis_client(f"unix://miller:x@{path}", timeout=60) as miller:
        # One who may not read the configuration simply gets fewer answers
        assert findings(miller) == []
        client.execute_command("ACL", "SETUSER", "miller", "-info")
        (finding,) = findings(miller)
        assert "+info" in finding
    client.execute_command("ACL", "DELUSER", "miller")


def test_a_redis_that_is_away_or_does_not_answer_is_told_of(client: redis.Redis) -> None:
    with redis_client("unix:///nowhere/redis.sock") as nowhere:
        (gone,) = findings(nowhere)
    pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        with redis_client(f"unix://{client.connection_pool.connection_kwargs['path']}", timeout=0.5) as hasty:
            (silent,) = findings(hasty)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "ConnectionError" in gone and "TimeoutError" in silent
    assert findings(client) == []


def test_a_version_too_old_is_told_of(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    version = client.info("server")["redis_version"]
    monkeypatch.setattr(onredis, "OLDEST", (99, 0))
    (finding,) = findings(client)
    assert f"version {version}," in finding and "99.0" in finding
