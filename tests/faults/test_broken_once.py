"""What once broke it: each test is a fault that somebody found by trying."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from sqlalchemy import update

from embedmill import Client
from producer.records import Record
from producer.submission import Submission
from storage.contract.broker import KEY_PREFIX, TASK_NAME
from storage.contract.errors import IdempotencyConflict, InvalidOption
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.contract.models import Priority, queue_name
from storage.contract.options import JobOptions
from storage.contract.settings import Settings
from storage.database import Database
from storage.migrations import migrate
from storage.sqlitefile import DatabaseMissing
from storage.stores import Stores
from storage.tables import WorkerRow
from storage.workers import LIVE_WITHIN
from tests.faults.forms import full
from tests.servers import short_folder
from tests.stack import children, free_port, running, wait_until_ready, worker_pids
from tests.storage.builders import CARD, serve, submit
from worker.settings import WorkerSettings


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@full
def test_an_unreadable_message_and_a_forgotten_worker_stop_nothing(data_dir: Path) -> None:
    # Given a stack that works
    port, log = free_port(), data_dir / "up.log"
    arguments = ["up", "--port", str(port), "--data-dir", str(data_dir)]
    with running(arguments, {}, log) as stack, Client(data_dir=data_dir) as client:
        wait_until_ready(stack, port, log)
        assert client.submit(["before"]).wait(timeout=60).succeeded == 1
        (worker,) = worker_pids(stack.pid)
        # When a message comes whose body Celery cannot take apart
        card = client._stores.workers.cards()[0].card
        queue = queue_name(card.name, card.id, Priority.BULK)
        envelope = {
            "body": json.dumps({"x": 1}),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"task": TASK_NAME, "id": "x", "lang": "py"},
            "properties": {"delivery_tag": "x", "delivery_info": {"exchange": "", "routing_key": queue}},
        }
        redis.Redis.from_url(client.settings.redis).lpush(KEY_PREFIX + queue, json.dumps(envelope))
        # And the reconciler of another machine forgets the worker
        with client._stores.database.write() as connection:
            connection.execute(WorkerRow.__table__.delete())
        # Then the same process does the next job
        job = client.submit(["after"])
        assert job.wait(timeout=60).succeeded == 1
        assert worker_pids(stack.pid) == [worker]
        assert "dropped a message" in log.read_text()
    assert not children(stack.pid)


def test_a_worker_silent_for_long_is_forgotten_and_can_tell(stores: Stores) -> None:
    worker = new_id()
    stores.workers.register(CARD, worker, "here", 1, "cpu")
    assert stores.workers.knows(worker)
    with stores.database.write() as connection:
        connection.execute(update(WorkerRow).values(last_seen=WorkerRow.last_seen - 11 * LIVE_WITHIN))
    stores.workers.forget_gone()
    assert not stores.workers.knows(worker)


def test_a_database_file_that_was_replaced_is_not_written_to_any_more(tmp_path: Path) -> None:
    # Given an open database
    path = tmp_path / "mill.sqlite3"
    database = Database(f"sqlite:///{path}")
    migrate(database)
    serve(Stores.on(database))
    assert database.schema_version() is not None
    # When its file is deleted
    for file in tmp_path.glob("mill.sqlite3*"):
        file.unlink()
    # Then that is noticed, and no empty one is made in its place
    for ask in (database.schema_version, Stores.on(database).workers.live):
        with pytest.raises(DatabaseMissing):
            ask()
    assert not path.exists()
    # And the new one is used as soon as somebody has made it
    other = Database(f"sqlite:///{path}")
    migrate(other)
    serve(Stores.on(other))
    job_id = submit(Stores.on(other))
    assert Stores.on(database).jobs.get(job_id).id == job_id
    database.close()
    other.close()


def test_an_idempotency_key_tells_revisions_apart(stores: Stores) -> None:
    def submitted(revision: str | None) -> str:
        asked = {"model": CARD.name, "revision": revision, "card": CARD, "options": JobOptions()}
        return Submission(stores, idempotency_key="monday", **asked).run([Record("a text")])

    serve(stores)
    first = submitted("5f1c0de")
    assert submitted("5f1c0de") == first
    with pytest.raises(IdempotencyConflict):
        submitted(None)


def test_a_job_bound_to_another_precision_says_so(stores: Stores) -> None:
    # Given a job for a model in one precision, that has begun
    worker = serve(stores)
    job_id = submit(stores)
    assert stores.leases.claim(Pointer(job_id, 0), worker, CARD.id, 0)
    stores.leases.release_worker(worker)
    # When only another one is served
    half = replace(CARD, precision="half" if CARD.precision != "half" else "float32")
    with stores.database.write() as connection:
        connection.execute(WorkerRow.__table__.delete())
    stores.workers.register(half, new_id(), "here", 1, "cpu")
    # Then it does not say that starting the model, which runs already, would help
    waiting = stores.statuses.get(job_id).waiting_for or ""
    assert f"in {CARD.precision}" in waiting and CARD.revision in waiting


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EMBEDMILL_REDIS_URL", "nonsense"),
        ("EMBEDMILL_REDIS_URL", "sentinel://host:26379/0"),
        ("EMBEDMILL_REDIS_URL", "redis://host:99999999/0"),
        ("EMBEDMILL_LEASE_SECONDS", "inf"),
        ("EMBEDMILL_STOP_GRACE", "inf"),
    ],
)
def test_nonsense_in_the_environment_is_told_by_its_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidOption, match=variable):
        WorkerSettings.load()


def test_a_variable_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBEDMILL_DATA_DIR", "")
    monkeypatch.setenv("EMBEDMILL_REDIS_URL", "")
    assert Settings.load().data_dir != tmp_path
    assert Settings.load().redis_is_embedded


def test_a_file_of_settings_that_is_not_utf_8_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfebad")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidOption, match="UTF-8"):
        Settings.load()


def test_a_port_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidOption):
        Database("postgresql://miller@host:port/mill")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_output_loses_no_job_id(data_dir: Path) -> None:
    texts = data_dir / "texts.txt"
    texts.write_text("one\n")
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "embedmill", "submit", str(texts), "--data-dir", str(data_dir)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    with Client(data_dir=data_dir) as client:
        (job,) = client.jobs()
    assert done.returncode == 4 and job.id in done.stderr and "Traceback" not in done.stderr
