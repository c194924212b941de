"""A small job's message goes out while its commit is on the way to the disk; its id is told only once it is there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from embedmill import Client
from storage import sqlitefile
from storage.contract.broker import KEY_PREFIX
from storage.contract.errors import StorageUnavailable
from storage.contract.models import Priority, queue_name
from storage.database import Database
from tests.storage.builders import CARD, serve_for_long

#: Where Redis keeps the messages of small jobs.
QUEUE = KEY_PREFIX + queue_name(CARD.name, CARD.id, Priority.BULK)


@pytest.fixture
def client(tmp_path: Path, redis_server: str) -> Iterator[Client]:
    """A client of a SQLite file whose model is served by a worker that takes nothing."""
    with Client(data_dir=tmp_path, redis_url=redis_server, model=CARD.name) as client:
        serve_for_long(client.stores)
        yield client
    # The server is everybody's: no other test is to find these messages.
    with Redis.from_url(redis_server) as redis:
        redis.delete(QUEUE)


def test_an_id_is_told_once_the_job_is_on_the_disk(
    client: Client, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a disk that is looked at, and an empty queue
    waited: list[tuple[str, int]] = []
    redis = Redis.from_url(redis_server)
    redis.delete(QUEUE)

    def sync(log: int) -> None:
        waited.append((os.readlink(f"/proc/self/fd/{log}"), redis.llen(QUEUE)))
        os.fsync(log)

    monkeypatch.setattr(sqlitefile, "_sync_content", sync)
    # When a small job is submitted, and once more with the key of the first
    job = client.submit(["wheat"], idempotency_key="monday")
    again = client.submit(["wheat"], idempotency_key="monday")
    # Then its message was there before SQLite's log was waited for, and nobody was told an id before
    assert [Path(log).name for log, _ in waited] == ["embedmill.sqlite3-wal"] * 2
    assert [messages for _, messages in waited] == [1, 1] and again.id == job.id


def test_a_disk_that_fails_is_told_instead_of_an_id(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a disk that cannot say that all is there
    def fail(log: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(sqlitefile, "_sync_content", fail)
    # When a job is submitted, then that is told, and where to look
    with pytest.raises(StorageUnavailable, match="not known: Input/output error") as told:
        client.submit(["wheat"])
    assert "embedmill jobs" in told.value.remedy
    assert len(client.jobs()) == 1


def test_the_log_is_found_however_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(sqlitefile, "_sync_content", lambda log: waited.append(os.readlink(f"/proc/self/fd/{log}")))
    for name in (f"{tmp_path}/mill.sqlite3", f"file:{tmp_path}/mill.sqlite3?uri=true"):
        database = Database(f"sqlite:///{name}")
        database.make()
        # Where nothing was written there is nothing to wait for
        database.settle()
        with database.write(durable=False) as connection:
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS sacks (number)")
            connection.exec_driver_sql("INSERT INTO sacks VALUES (1)")
        database.settle()
        database.close()
    assert waited == [f"{tmp_path}/mill.sqlite3-wal"] * 2
