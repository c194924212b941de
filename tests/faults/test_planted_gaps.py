"""Promises that nothing else looked at: each test was written because a planted bug had passed unseen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import pytest
from sqlalchemy import event, select, update

from storage import counters
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.database import now_ms
from storage.dispatch import Send
from storage.leases import LEASE
from storage.stores import Stores
from storage.tables import ChunkRow, ModelRow, WorkerRow
from tests.faults.running import running_mill
from tests.storage.builders import CARD, OTHER, chunk_row, chunk_states, claim, result, serve, set_chunk, submit
from tests.worker import engines
from worker.embedding import Embedding
from worker.reconciler import Reconciler

T = TypeVar("T")

#: Longest wait for what must come, in seconds.
PATIENCE = 60.0


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def about_to_write(pool: ThreadPoolExecutor, stores: Stores, work: Callable[[], T]) -> Future[T]:
    """Begin work in a thread; return as soon as it has looked at chunks, if it does, and is about to change them."""
    writing = threading.Event()

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        # On SQLite that is how a write begins.
        if statement.startswith(("PRAGMA synchronous", "UPDATE chunks")) or "FOR UPDATE" in statement:
            writing.set()

    event.listen(stores.database.engine, "before_cursor_execute", note)
    begun = pool.submit(work)
    assert writing.wait(PATIENCE)
    return begun


def test_a_commit_that_waited_while_its_chunk_was_taken_over_changes_nothing(
    stores: Stores, open_again: Callable[[], Stores], pool: ThreadPoolExecutor
) -> None:
    # Given a worker whose lease is over
    slow, quick, other = serve(stores), serve(stores), open_again()
    job_id = submit(stores)
    (late,) = claim(stores, job_id, 0, slow)
    # When it commits while another one's claim is on its way
    with stores.database.write() as taking:
        values = {"token": late.token + 1, "lease_owner": quick}
        taking.execute(update(ChunkRow).where(ChunkRow.job_id == job_id).values(values))
        told = about_to_write(pool, other, lambda: other.leases.commit([(late, result())]))
    # Then it is told that it was late, and nothing of it is there
    assert told.result(PATIENCE) == (set(), [])
    row = chunk_row(stores.database, job_id)
    assert (row.state, row.lease_owner) == ("leased", quick)
    assert [page.vectors for page in stores.results.pages(job_id)] == [None]


def test_a_commit_while_expired_leases_are_taken_back_is_not_undone(
    stores: Stores, open_again: Callable[[], Stores], pool: ThreadPoolExecutor
) -> None:
    # Given a lease that is over
    worker, sweeper = serve(stores), open_again()
    job_id = submit(stores)
    claim(stores, job_id, 0, worker)
    set_chunk(stores.database, job_id, 0, lease_expires=1)
    # When it is taken back while its worker's commit is on its way
    with stores.database.write() as committing:
        values = {"state": "done", "succeeded": 2, "lease_owner": None, "lease_expires": None}
        committing.execute(update(ChunkRow).where(ChunkRow.job_id == job_id).values(values))
        taken_back = about_to_write(pool, sweeper, sweeper.leases.release_expired)
    # Then what is done stays done
    assert taken_back.result(PATIENCE) == 0
    assert chunk_states(stores.database, job_id) == ["done"]


@pytest.mark.parametrize("off", [3600.0, -3600.0])
def test_a_lease_runs_on_the_databases_clock_whatever_the_workers_says(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    # Given a worker whose clock is an hour off
    worker, clock = serve(stores), time.time
    job_id = submit(stores)
    monkeypatch.setattr(time, "time", lambda: clock() + off)
    # When it claims, and when it beats
    (held,) = claim(stores, job_id, 0, worker)
    for hold in (lambda: {held.key}, lambda: stores.leases.heartbeat(worker, [held.key])):
        assert hold() == {held.key}
        # Then its lease lasts as long as any other
        assert stores.leases.release_expired() == 0
        with stores.database.read() as connection:
            assert 0 < connection.execute(select(ChunkRow.lease_expires - now_ms())).scalar_one() <= LEASE


def test_a_transaction_that_reads_before_it_writes_is_never_refused(
    stores: Stores, open_again: Callable[[], Stores], pool: ThreadPoolExecutor
) -> None:
    # Given a transaction that has read
    first, other, worker = serve(stores), open_again(), new_id()
    job_id = submit(stores)
    with stores.database.write() as connection:
        assert connection.execute(select(WorkerRow.id)).scalars().all() == [first]
        # When another one wants to write
        registered = pool.submit(other.workers.register, CARD, worker, "here", 1, "cpu")
        wait([registered], timeout=0.5)
        # Then the first one can still write, and so can the other
        connection.execute(update(ChunkRow).where(ChunkRow.job_id == job_id).values(claims=7))
    registered.result(PATIENCE)
    assert chunk_row(stores.database, job_id).claims == 7 and stores.workers.knows(worker)


def embedding_on(stores: Stores, engine: engines.HashEngine) -> Embedding:
    worker = serve(stores, engine.card)
    return Embedding(stores, engine, worker, lambda finished: None, lambda: None, lambda: None)


def test_a_message_that_comes_twice_is_counted_as_dropped(stores: Stores) -> None:
    embedding = embedding_on(stores, engines.HashEngine())
    job_id = submit(stores, card=engines.CARD)
    embedding.run(Pointer(job_id, 0))
    counters.take()
    embedding.run(Pointer(job_id, 0))
    assert counters.take() == {"messages_dropped": 1}


def test_a_suspect_is_embedded_while_nothing_else_is(stores: Stores, pool: ThreadPoolExecutor) -> None:
    # Given a chunk whose process died, and another one in the engine
    engine = engines.HashEngine()
    embedding = embedding_on(stores, engine)
    suspect, innocent = submit(stores, card=engines.CARD), submit(stores, card=engines.CARD)
    victim = new_id()
    assert stores.leases.claim(Pointer(suspect, 0), victim, engines.CARD.id, 0)
    stores.leases.release_worker(victim, died=True)
    engine.gate.clear()
    first = pool.submit(embedding.run, Pointer(innocent, 0))
    assert engine.entered.wait(PATIENCE)
    engine.entered.clear()
    # When the suspect's message comes
    second = pool.submit(embedding.run, Pointer(suspect, 0))
    # Then it waits until the other one is done
    deadline = time.monotonic() + PATIENCE
    while not embedding._solitude._suspects and not engine.entered.is_set():
        assert time.monotonic() < deadline, "the suspect's message was not looked at"
        time.sleep(0.01)
    entered = engine.entered.is_set()
    engine.gate.set()
    first.result(PATIENCE)
    second.result(PATIENCE)
    assert not entered
    assert [stores.statuses.get(job_id).state for job_id in (innocent, suspect)] == ["completed", "completed"]


class Outbox:
    """What was sent."""

    def __init__(self) -> None:
        self.sent: list[Pointer] = []

    @property
    def send(self) -> Send:
        return lambda pointers, queue: self.sent.extend(pointers)


def test_a_row_that_cannot_be_read_keeps_the_sweep_from_nothing_else(stores: Stores, redis_server: str) -> None:
    # Given two served models, and a job of one of them that is all done but not finished
    serve(stores, OTHER)
    worker = serve(stores)
    stuck, waiting = submit(stores), submit(stores, 2)
    claim(stores, stuck, 0, worker)
    set_chunk(stores.database, stuck, 0, state="done", succeeded=2)
    # When the other model's row is nonsense
    with stores.database.write() as connection:
        connection.execute(update(ModelRow).where(ModelRow.id == OTHER.id).values(card={"width": "wide"}))
    outbox = Outbox()
    Reconciler(stores, redis_server, outbox.send).sweep()
    # Then the job is finished, and what waits for the first model is sent
    assert stores.statuses.get(stuck).state == "completed"
    assert outbox.sent == [Pointer(waiting, 0), Pointer(waiting, 1)]


def test_a_worker_that_is_stopped_leaves_nothing_leased() -> None:
    # Given a worker in the midst of a long batch, with leases that last for long
    with running_mill(lease=600.0, pause=600.0) as mill:
        mill.submit(20)
        mill.wait_for(lambda: mill.sql("SELECT 1 FROM chunks WHERE state = 'leased'"), what="a claim")
        # When it is stopped in order
        mill.stop_supervisor()
        # Then others may have its chunks at once, and nothing is charged to them
        left = mill.sql("SELECT job_id, number FROM chunks WHERE state = 'leased' OR crashes > 0")
        mill.start_supervisor(FAULTS_PAUSE="0")
        assert left == []
