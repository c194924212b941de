"""The store of chunks, over both databases: what is appended, what is sent, what is taken back."""

import pytest
from sqlalchemy import update

from storage.attempts import Claim
from storage.chunks import WINDOW_PER_WORKER
from storage.contract.errors import QueueUnavailable, WrongState
from storage.contract.messages import Pointer
from storage.contract.models import Priority, queue_name
from storage.database import Database, now_ms
from storage.dispatch import dispatch_next
from storage.stores import Stores
from storage.tables import JobRow, WorkerRow
from storage.workers import LIVE_WITHIN
from tests.storage.builders import (
    ALONE,
    CARD,
    OTHER,
    accept,
    chunk,
    chunk_row,
    chunk_states,
    claim,
    finish,
    serve,
    set_chunk,
    submit,
)


def dispatch(stores: Stores, priority: Priority = Priority.BULK) -> list[Pointer]:
    return stores.chunks.dispatch(CARD.id, priority)


def test_chunks_are_kept_with_their_texts(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores, [chunk(0, ("wheat", "小麦")), chunk(1, ("rye",), first=2)])
    row = chunk_row(database, job_id, 1)
    assert (row.first, row.size, row.token_estimate, row.token, row.state) == (2, 1, 10, 0, "pending")
    held: list[Claim] = claim(stores, job_id, 0, worker)
    ((_, found),) = stores.leases.inputs(held)
    assert found.texts == ["wheat", "小麦"]


def test_chunks_are_appended_only_while_a_job_is_being_submitted(stores: Stores, database: Database) -> None:
    serve(stores)
    job_id = submit(stores, 1)
    with pytest.raises(WrongState, match="takes no more texts"):
        stores.chunks.append(job_id, [chunk(1)])
    assert chunk_states(database, job_id) == ["pending"]


def test_nothing_is_sent_where_nobody_serves_the_model(stores: Stores, database: Database) -> None:
    # Given a model that is known, and served by nobody since its worker has gone
    worker = serve(stores)
    serve(stores, OTHER)
    stores.workers.leave(worker)
    job_id = submit(stores, 2)
    # When something asks what to send, then there is nothing
    assert dispatch(stores) == []
    assert chunk_states(database, job_id) == ["pending", "pending"]


def test_a_worker_not_seen_for_long_opens_no_window(stores: Stores, database: Database) -> None:
    serve(stores)
    submit(stores)
    with database.write() as connection:
        connection.execute(update(WorkerRow).values(last_seen=now_ms() - LIVE_WITHIN - 1))
    assert dispatch(stores) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_each_live_worker_opens_a_window_of_four(stores: Stores, database: Database, workers: int) -> None:
    for _ in range(workers):
        serve(stores)
    serve(stores, OTHER)
    job_id = submit(stores, 10)
    window = workers * WINDOW_PER_WORKER
    # When the window is filled, then it is full
    assert dispatch(stores) == [Pointer(job_id, number) for number in range(window)]
    assert dispatch(stores) == []
    assert chunk_states(database, job_id) == ["dispatched"] * window + ["pending"] * (10 - window)
    assert stores.chunks.out(CARD.id) == window and stores.chunks.out(OTHER.id) == 0


def test_a_claimed_chunk_frees_its_place_in_the_window(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores, 6)
    dispatch(stores)
    claim(stores, job_id, 2, worker)
    assert dispatch(stores) == [Pointer(job_id, 4)]


def test_fewer_are_sent_than_the_window_holds_when_asked_so(stores: Stores) -> None:
    serve(stores)
    job_id = submit(stores, 3)
    assert stores.chunks.dispatch(CARD.id, Priority.BULK, most=2) == [Pointer(job_id, 0), Pointer(job_id, 1)]


def test_the_oldest_job_is_sent_first(stores: Stores, database: Database) -> None:
    serve(stores)
    young, old = submit(stores, 2), submit(stores, 2)
    with database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == old).values(created_at=now_ms() - 60_000))
    assert dispatch(stores) == [Pointer(old, 0), Pointer(old, 1), Pointer(young, 0), Pointer(young, 1)]


def test_urgent_and_bulk_chunks_have_windows_of_their_own(stores: Stores) -> None:
    serve(stores)
    bulk, urgent = submit(stores, 5), submit(stores, 5, priority=Priority.URGENT)
    assert {pointer.job_id for pointer in dispatch(stores)} == {bulk}
    sent = dispatch(stores, Priority.URGENT)
    assert sent == [Pointer(urgent, number) for number in range(WINDOW_PER_WORKER)]


def test_only_what_is_sealed_open_and_due_is_sent(stores: Stores, database: Database) -> None:
    # Given one job being submitted, one cancelled, one of another model, one whose back-off is not over, one just over
    serve(stores), serve(stores, OTHER)
    accept(stores)
    stores.jobs.cancel(submit(stores))
    submit(stores, card=OTHER)
    later = submit(stores, 2)
    set_chunk(database, later, 0, not_before=now_ms() + 60_000)
    set_chunk(database, later, 1, not_before=now_ms() - 1)
    # Then only the last is sent
    assert dispatch(stores) == [Pointer(later, 1)]


def test_what_could_not_be_sent_is_pending_again_unless_it_was_claimed(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores, 3)
    pointers = dispatch(stores)
    claim(stores, job_id, 1, worker)
    stores.chunks.undispatch(pointers)
    assert chunk_states(database, job_id) == ["pending", "leased", "pending"]


def test_messages_nobody_answered_are_taken_back_and_younger_ones_are_not(stores: Stores, database: Database) -> None:
    serve(stores), serve(stores, OTHER)
    job_id, other = submit(stores, 2), submit(stores, card=OTHER)
    dispatch(stores)
    stores.chunks.dispatch(OTHER.id, Priority.BULK)
    set_chunk(database, job_id, 0, dispatched_at=now_ms() - 60_001)
    set_chunk(database, other, 0, dispatched_at=now_ms() - 60_001)
    # When those older than a minute of one model are taken back, then one is
    assert stores.chunks.redispatch(60_000, CARD.id) == 1
    assert chunk_states(database, job_id) == ["pending", "dispatched"]
    assert chunk_states(database, other) == ["dispatched"]
    # And of every model, then the other is
    assert stores.chunks.redispatch(60_000) == 1
    assert chunk_states(database, other) == ["pending"]
    assert stores.chunks.redispatch(60_000) == 0


def test_dispatch_sends_urgent_chunks_before_bulk_ones_to_queues_of_their_names(stores: Stores) -> None:
    serve(stores)
    bulk, urgent = submit(stores), submit(stores, priority=Priority.URGENT)
    sent: list[tuple[str, str]] = []
    count = dispatch_next(
        stores.chunks, lambda pointers, queue: sent.extend((p.job_id, queue) for p in pointers), CARD.name, CARD.id
    )
    assert count == 2
    names = [queue_name(CARD.name, CARD.id, priority) for priority in (Priority.URGENT, Priority.BULK)]
    assert sent == [(urgent, names[0]), (bulk, names[1])]
    assert names[0] == f"grain-small.{CARD.id}.urgent"


def test_dispatch_takes_everything_back_when_redis_is_down(stores: Stores, database: Database) -> None:
    serve(stores)
    job_id = submit(stores, 2)

    def fail(pointers: object, queue: str) -> None:
        raise QueueUnavailable("Redis does not answer.")

    with pytest.raises(QueueUnavailable):
        dispatch_next(stores.chunks, fail, CARD.name, CARD.id)
    assert chunk_states(database, job_id) == ["pending", "pending"]


def test_a_finished_job_leaves_nothing_to_send(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores, 2)
    finish(stores, job_id, 2, worker)
    assert dispatch(stores) == []
    assert stores.leases.claim(Pointer(job_id, 0), worker, CARD.id, ALONE) == []
