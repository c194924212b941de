"""The reconciler's duties, over both databases and a real Redis-protocol server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import redis
from sqlalchemy import update

from storage import counters
from storage.chunks import NewChunk
from storage.contract.broker import KEY_PREFIX
from storage.contract.errors import QueueUnavailable, UnknownJob
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.contract.models import Priority, queue_name
from storage.contract.options import JobOptions
from storage.database import Database, now_ms
from storage.leases import LeaseStore
from storage.newjobs import NewJob
from storage.redisclient import redis_client
from storage.stores import Stores
from storage.tables import JobRow
from tests.worker.engines import CARD
from worker import exits, keeper, reconciler
from worker.reconciler import Reconciler
from worker.shortages import LOOKS

ROOT = Path(__file__).resolve().parents[2]

QUEUE = f"{KEY_PREFIX}{queue_name(CARD.name, CARD.id, Priority.BULK)}"


class Outbox:
    """What was sent to Redis; it can be down."""

    def __init__(self) -> None:
        self.sent: list[Pointer] = []
        self.down = False

    def send(self, pointers: Sequence[Pointer], queue: str) -> None:
        if self.down:
            raise QueueUnavailable("down")
        self.sent += pointers


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis answers, however late, and a message is missed when a test says so, not when the machine stands still."""
    monkeypatch.setattr(reconciler, "redis_client", partial(redis_client, timeout=60))
    monkeypatch.setattr(reconciler, "MISSED_AFTER", 600_000)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def sweeper(stores: Stores, redis_server: str, outbox: Outbox) -> Reconciler:
    stores.workers.register(CARD, new_id(), "here", 1, "cpu")
    return Reconciler(stores, redis_server, outbox.send)


def submitted(stores: Stores, *texts: str) -> str:
    job_id = new_id()
    stores.jobs.create(NewJob(job_id, CARD.name, None, CARD.id, JobOptions().to_dict()))
    chunks = [NewChunk(i, i, [text.encode()], 3, None, {}) for i, text in enumerate(texts)]
    stores.chunks.append(job_id, chunks)
    stores.jobs.seal(job_id, len(texts), len(texts))
    return job_id


def test_pending_chunks_are_sent_as_far_as_the_window_goes(stores: Stores, sweeper: Reconciler, outbox: Outbox) -> None:
    job_id = submitted(stores, *"abcdefgh")
    sweeper.sweep()
    assert outbox.sent == [Pointer(job_id, number) for number in range(4)]
    sweeper.sweep()
    assert len(outbox.sent) == 4


def test_what_could_not_be_sent_is_sent_later(stores: Stores, sweeper: Reconciler, outbox: Outbox) -> None:
    job_id = submitted(stores, "a")
    outbox.down = True
    sweeper.sweep()
    outbox.down = False
    sweeper.sweep()
    assert outbox.sent == [Pointer(job_id, 0)]


def test_a_silent_workers_chunk_is_sent_again(
    stores: Stores, sweeper: Reconciler, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a chunk whose lease is over
    job_id = submitted(stores, "a")
    assert LeaseStore(stores.database, lease=-1_000).claim(Pointer(job_id, 0), new_id(), CARD.id, 0)
    # When the reconciler sweeps
    sweeper.sweep()
    # Then it is sent again
    assert outbox.sent == [Pointer(job_id, 0)]


def test_messages_that_vanished_from_redis_are_sent_again(
    stores: Stores, sweeper: Reconciler, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a message that was sent and is not in Redis
    job_id = submitted(stores, "a")
    sweeper.sweep()
    assert len(outbox.sent) == 1
    # When it has been out for longer than a worker needs to claim it
    monkeypatch.setattr(reconciler, "MISSED_AFTER", -1)
    for _ in range(LOOKS):
        sweeper.sweep()
    # Then it is sent again
    assert outbox.sent == [Pointer(job_id, 0)] * 2


def test_messages_of_which_some_vanished_are_sent_again(
    stores: Stores, sweeper: Reconciler, outbox: Outbox, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two messages that were sent, and one in Redis
    submitted(stores, "a", "b")
    sweeper.sweep()
    client = redis.Redis.from_url(redis_server)
    client.lpush(QUEUE, "still here")
    monkeypatch.setattr(reconciler, "MISSED_AFTER", -1)
    try:
        for _ in range(LOOKS):
            sweeper.sweep()
    finally:
        client.delete(QUEUE)
        client.close()
    # Then, since nobody knows which one it is, both are sent again
    assert len(outbox.sent) == 4


def test_messages_that_wait_in_redis_are_left_alone(
    stores: Stores, sweeper: Reconciler, outbox: Outbox, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(stores, "a")
    sweeper.sweep()
    client = redis.Redis.from_url(redis_server)
    client.lpush(QUEUE, "still here")
    monkeypatch.setattr(reconciler, "MISSED_AFTER", -1)
    try:
        for _ in range(LOOKS):
            sweeper.sweep()
    finally:
        client.delete(QUEUE)
        client.close()
    assert len(outbox.sent) == 1


def test_messages_not_answered_for_long_are_sent_again_whatever_redis_says(
    stores: Stores, sweeper: Reconciler, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(stores, "a")
    sweeper.sweep()
    monkeypatch.setattr(reconciler, "LOST_AFTER", -1)
    sweeper.sweep()
    assert len(outbox.sent) == 2


def test_abandoned_submissions_are_purged(stores: Stores, sweeper: Reconciler, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a submission whose producer died before sealing it
    job_id = new_id()
    stores.jobs.create(NewJob(job_id, CARD.name, None, CARD.id, JobOptions().to_dict()))
    stores.chunks.append(job_id, [NewChunk(0, 0, [b"a"], 3, None, {})])
    # When it has been silent for long, and a turn is long enough on any machine
    monkeypatch.setattr(keeper, "ABANDONED_AFTER", -1)
    monkeypatch.setattr(keeper, "_TURN", 60.0)
    sweeper.sweep()
    # Then no row of it is left
    assert list(stores.results.pages(job_id)) == []


def test_one_duty_that_fails_does_not_keep_the_others_from_their_turn(
    stores: Stores, sweeper: Reconciler, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: LeaseStore) -> int:
        raise QueueUnavailable("this duty fails")

    monkeypatch.setattr(LeaseStore, "release_expired", fail)
    submitted(stores, "a")
    sweeper.sweep()
    assert len(outbox.sent) == 1


def test_a_reconciler_that_stops_while_the_database_is_away_stops_all_the_same(
    migrated_sqlite: Path, tmp_path: Path, redis_server: str, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a reconciler that is to stop, and a database to which nobody can write
    path, stopped = tmp_path / "mill.sqlite3", threading.Event()
    shutil.copy(migrated_sqlite, path)
    with closing(Database(f"sqlite:///{path}", busy_timeout=50)) as database:
        stopped.set()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            # When it stops, then it says what becomes of its lead, and nothing is raised
            Reconciler(Stores.on(database), redis_server, outbox.send).run(stopped)
    assert "its term runs out" in caplog.text


def test_a_redis_that_was_started_again_has_all_messages_sent_again_at_once(
    stores: Stores, sweeper: Reconciler, outbox: Outbox, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a message that has just been sent, and as many in Redis as were sent
    submitted(stores, "a")
    sweeper.sweep()
    client = redis.Redis.from_url(redis_server)
    client.lpush(QUEUE, "somebody else's")
    try:
        # When it is another Redis that answers
        sweeper._run_id = "the one before"
        sweeper.sweep()
        sweeper.sweep()
    finally:
        client.delete(QUEUE)
        client.close()
    # Then it is sent again, once
    assert len(outbox.sent) == 2


def test_a_bad_row_does_not_keep_the_others_waiting(
    stores: Stores, sweeper: Reconciler, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a duty that meets something nobody foresaw
    counters.take()
    monkeypatch.setattr(LeaseStore, "release_expired", lambda self: {}["a row nobody foresaw"])
    submitted(stores, "a")
    # When the reconciler sweeps
    sweeper.sweep()
    # Then all other duties are done, and it is counted
    assert len(outbox.sent) == 1
    assert stores.counters.all()["sweeps_failed"] == 1


def test_a_job_whose_time_is_over_is_ended_by_a_sweep(stores: Stores, sweeper: Reconciler) -> None:
    job_id = submitted(stores, "a")
    with stores.database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(expires_at=1))
    sweeper.sweep()
    assert stores.jobs.get(job_id).state == "expired"
    assert stores.counters.all()["jobs_expired"] == 1


def test_what_is_wrong_with_redis_is_told_once_and_again_when_it_changes(
    sweeper: Reconciler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a Redis that evicts
    found = ["Redis throws messages away"]
    monkeypatch.setattr(reconciler, "findings", lambda client: list(found))
    monkeypatch.setattr(reconciler, "_ADVISE_EVERY", 0.0)
    sweeper.sweep()
    sweeper.sweep()
    assert caplog.text.count("throws messages away") == 1
    # When it is mended and broken again
    found.clear()
    sweeper.sweep()
    found.append("Redis throws messages away")
    sweeper.sweep()
    assert caplog.text.count("throws messages away") == 2


def test_old_jobs_go_when_their_time_is_over(
    stores: Stores, redis_server: str, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an ended job that nothing was said of, and a turn that is long enough on any machine
    monkeypatch.setattr("worker.keeper._TURN", 60.0)
    worker = new_id()
    stores.workers.register(CARD, worker, "here", 1, "cpu")
    job_id = submitted(stores, "a")
    stores.jobs.cancel(job_id)
    # When a reconciler sweeps, it stays; when its time is over, it goes
    Reconciler(stores, redis_server, outbox.send).sweep()
    assert stores.jobs.get(job_id).state == "cancelled"
    with stores.database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(kept_until=now_ms()))
    Reconciler(stores, redis_server, outbox.send).sweep()
    with pytest.raises(UnknownJob):
        stores.jobs.get(job_id)
    assert stores.purges.marked() == []


def test_one_that_finds_no_database_at_its_start_says_so_in_a_line(tmp_path: Path) -> None:
    # Given a database that nobody serves, when a supervisor starts its reconciler
    with socket.socket() as taken:  # bound and not listening: nobody else gets it, and nobody answers
        taken.bind(("127.0.0.1", 0))
        nobody = f"postgresql://u:p@127.0.0.1:{taken.getsockname()[1]}/mill"
        told = os.environ | {"EMBEDMILL_DATABASE_URL": nobody, "EMBEDMILL_LOG_FORMAT": "json"}
        command = [sys.executable, "-m", "worker.reconciler"]
        ran = subprocess.run(command, env=told, cwd=ROOT, capture_output=True, text=True, timeout=100)
    # Then it ends with the code that tells so, and one line without a traceback
    (line,) = ran.stderr.splitlines()
    assert ran.returncode == exits.STORAGE_AWAY
    assert "The database does not answer" in json.loads(line)["message"] and "Traceback" not in line
