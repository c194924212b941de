"""What the supervisor has the database do, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from storage.contract.ids import new_id
from storage.leaders import RECONCILE, LeaderStore
from storage.leases import LeaseStore
from storage.stores import Stores
from storage.tables import LeaderRow
from tests.engine.watched import until
from tests.storage.builders import MODEL, chunk_row, claim, serve, submit
from worker import child as child_module
from worker.child import Child
from worker.chores import Chores
from worker.quarantine import Quarantine


@pytest.fixture
def child() -> Child:
    return Child("worker on cpu", lambda _: [], {}, lambda *_: None)


@pytest.fixture
def chores(stores: Stores, child: Child) -> Iterator[Chores]:
    chores = Chores(stores, Quarantine(stores.workers, MODEL), [child])
    chores.start()
    yield chores
    chores.finish(60)


def test_what_a_dead_process_held_is_given_back(stores: Stores, chores: Chores, child: Child) -> None:
    # Given a worker with a chunk, and one that leads
    worker = serve(stores)
    job_id = submit(stores, chunks=1)
    claim(stores, job_id, 0, worker)
    LeaderStore(stores.database).lead(RECONCILE, worker)
    # When both have died
    chores.bury(child, worker, True)
    chores.resign(worker)
    # Then neither chunk nor lead is theirs, and the death is charged
    until(lambda: chunk_row(stores.database, job_id, 0).lease_owner is None and not _leads(stores))
    assert chunk_row(stores.database, job_id, 0).crashes == 1
    until(lambda: not stores.workers.knows(worker))


def test_a_charged_death_brings_the_next_start_forward(stores: Stores, chores: Chores, child: Child) -> None:
    # Given a process that is to be started in ten minutes
    worker = serve(stores)
    claim(stores, submit(stores, chunks=1), 0, worker)
    child._next_start = far = child_module.time.monotonic() + 600
    # When it turns out that it died of a chunk
    chores.bury(child, worker, True)
    # Then it is started before, since the culprit is sought
    until(lambda: child._next_start < far - 500)


def test_whoever_looks_after_processes_does_not_wait_for_the_database(
    stores: Stores, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a database that does not answer for now
    answers, asked = threading.Event(), threading.Event()
    release = LeaseStore.release_worker

    def late(self: LeaseStore, worker_id: str, died: bool = False) -> int:
        asked.set()
        answers.wait(20)
        return release(self, worker_id, died)

    monkeypatch.setattr(LeaseStore, "release_worker", late)
    worker = serve(stores)
    job_id = submit(stores, chunks=1)
    claim(stores, job_id, 0, worker)
    chores = Chores(stores, Quarantine(stores.workers, MODEL), [child])
    chores.start()
    # When a process dies, and another while the first is still being seen to
    chores.bury(child, worker, False)
    assert asked.wait(60)
    chores.bury(child, new_id(), False)
    # Then both calls have returned; what was noted is done once the database answers
    assert chunk_row(stores.database, job_id, 0).lease_owner == worker
    answers.set()
    chores.finish(60)
    assert chunk_row(stores.database, job_id, 0).lease_owner is None
    assert chores._dead == {}


def _leads(stores: Stores) -> bool:
    with stores.database.read() as connection:
        return connection.execute(select(LeaderRow.owner)).first() is not None
