"""Jobs of very many chunks end in short steps; others come in between, and whoever looks sees them ended at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, text

from storage import settling
from storage.contract.errors import UnknownJob
from storage.contract.models import Priority
from storage.contract.states import ChunkState, JobState
from storage.database import Database
from storage.ends import ended
from storage.exporting import Exporter
from storage.importing import Importer
from storage.loads import Load
from storage.quotas import Quota
from storage.settling import Ending, end
from storage.stores import Stores
from storage.tables import ChunkRow, JobRow
from tests.storage.builders import CARD, claim, finish, result, serve, set_chunk, submit
from tests.storage.large import ITEMS, TOKENS, changed_chunks, job_row, killed, large_job, until_done
from tests.storage.test_quotas import freeze, owed
from worker.keeper import Keeper
from worker.reconciler import Reconciler

#: Chunks of a large job, and of a step.
CHUNKS, STEP = 5_000, 100


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make steps small, and have nobody go on who has just ended a job."""
    monkeypatch.setattr(settling, "STEP", STEP)
    monkeypatch.setattr(settling, "AT_ONCE", 0.0)


def open_chunks(database: Database, job_id: str) -> int:
    """Return how many chunks of a job have no outcome in their rows."""
    with database.read() as connection:
        count = select(func.count()).where(ChunkRow.job_id == job_id, ChunkRow.state.in_(settling_states()))
        return int(connection.execute(count).scalar_one())


def job_count(database: Database) -> int:
    """Return how many jobs have a row."""
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(JobRow)).scalar_one())


def settling_states() -> list[str]:
    return [ChunkState.PENDING, ChunkState.DISPATCHED, ChunkState.LEASED]


def test_no_statement_of_an_end_changes_more_than_a_step(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job of 5,000 chunks, four of which are sent, and one is leased
    worker, job_id = serve(stores), large_job(stores, CHUNKS)
    assert len(stores.chunks.dispatch(CARD.id, Priority.BULK)) == 4
    claim(stores, job_id, 4_999, worker)
    # When it is cancelled, and that has all the time it needs
    monkeypatch.setattr(settling, "AT_ONCE", 1e9)
    with changed_chunks(database) as changed:
        assert stores.jobs.cancel(job_id)
    # Then it went step by step, and all of it is settled
    assert max(changed) <= STEP and sum(changed) == CHUNKS and len(changed) >= CHUNKS // STEP
    assert open_chunks(database, job_id) == 0 and job_row(database, job_id).unsettled_after is None
    assert stores.settling.unsettled() == []


def test_a_small_job_ends_in_one_transaction(stores: Stores, database: Database) -> None:
    serve(stores)
    job_id = submit(stores, STEP)
    begun: list[str] = []
    event.listen(database.engine, "begin", lambda connection: begun.append("begin"))
    assert stores.jobs.cancel(job_id)
    assert begun == ["begin"] and open_chunks(database, job_id) == 0


def test_an_ended_job_is_seen_as_such_while_it_is_being_settled(stores: Stores, database: Database) -> None:
    # Given a job of many chunks, the first of which is done and the next two are in hand
    worker = serve(stores)
    job_id = large_job(stores, 5 * STEP)
    finish(stores, job_id, 1, worker)
    (held,) = claim(stores, job_id, 1, worker)
    # When it is cancelled, and nobody goes on with that
    assert stores.jobs.cancel(job_id)
    assert open_chunks(database, job_id) > 0 and stores.settling.unsettled() == [job_id]
    # Then its status says that it is over, with a count for every text
    status = stores.statuses.get(job_id)
    total = 5 * STEP * ITEMS
    assert (status.state, status.succeeded, status.cancelled, status.pending) == ("cancelled", 2, total - 2, 0)
    # And so do its results, page by page
    outcomes = [one.status for page in stores.results.pages(job_id, settled_only=True) for one in page.outcomes()]
    assert outcomes == ["succeeded"] * 2 + ["cancelled"] * (total - 2)
    last = stores.results.page_at(job_id, total - 1, "cancelled")
    assert last is not None and last.rest == "cancelled"
    assert stores.results.page_at(job_id, 2, "succeeded") is stores.results.page_at(job_id, 2, "failed") is None
    assert stores.failures.first(job_id, 10) == []
    # And nothing of it waits anywhere
    assert set(stores.chunks.open_by_state().values()) == {0}
    assert stores.backlogs.of_model(CARD.name).bulk == Load()
    assert stores.workloads.get().queued == {}
    assert stores.chunks.dispatch(CARD.id, Priority.BULK) == []
    assert claim(stores, job_id, 5 * STEP - 1, worker) == []
    assert stores.leases.commit([(held, result())]) == (set(), [])
    assert stores.invariants.check(page=10 * STEP).broken == {}
    # And it cannot be cancelled again, nor sent round
    assert stores.jobs.cancel(job_id) is False
    # When it is settled, then nothing of that changes
    until_done(lambda: stores.settling.step(job_id))
    assert open_chunks(database, job_id) == 0 and stores.statuses.get(job_id) == status


def test_what_was_leased_at_the_last_moment_changes_nothing_and_is_settled_in_the_end(
    stores: Stores, database: Database
) -> None:
    # Given a job that was cancelled, of which a claim that had begun before took a chunk
    worker, job_id = serve(stores), large_job(stores, 3 * STEP)
    (held,) = claim(stores, job_id, 5, worker)
    stores.jobs.cancel(job_id)
    leased: dict[str, Any] = {"state": "leased", "lease_owner": worker, "token": held.token}
    set_chunk(database, job_id, 5, **leased, lease_expires=held.token + 10**15)
    before = stores.statuses.get(job_id)
    # When its result comes, then it comes too late
    assert stores.leases.commit([(held, result())]) == (set(), [])
    assert stores.statuses.get(job_id) == before and before.pending == 0
    # When it is given back instead, behind the place at which the settling is, then it is settled all the same
    until_done(lambda: stores.settling.step(job_id) and job_row(database, job_id).unsettled_after < 2 * STEP - 10)
    stores.leases.release([held])
    until_done(lambda: stores.settling.step(job_id))
    assert open_chunks(database, job_id) == 0 and stores.statuses.get(job_id) == before


def test_others_claim_and_commit_a_mixed_batch_while_a_large_job_ends(
    stores: Stores, database: Database, open_again: Callable[[], Stores]
) -> None:
    # Given a job of 5,000 chunks, a small one of the same queue, and a worker who waits half a second for nobody
    worker, large = serve(stores), large_job(stores, CHUNKS)
    small = submit(stores, 3)
    other = open_again()
    if not database.is_sqlite:
        event.listen(other.database.engine, "begin", _wait_for_nobody)
    (held,) = claim(stores, large, CHUNKS - 1, worker)
    # When the large one ends, in the midst of a step on PostgreSQL, between two on SQLite, which has one writer
    with database.write() as connection:
        assert end(connection, large, ended(JobState.CANCELLED)) is Ending.BEGUN
    steps = database.write()
    connection = steps.__enter__()
    settling.step(connection, large)
    if database.is_sqlite:
        steps.__exit__(None, None, None)
    # Then a batch of both is committed at once: what is of the small one is kept
    mixed = [held, *claim(other, small, 0, worker, room=10**6)]
    assert len(mixed) == 4
    written, finished = other.leases.commit([(one, result()) for one in mixed])
    assert {key[0] for key in written} == {small} and finished == [small]
    if not database.is_sqlite:
        steps.__exit__(None, None, None)
    until_done(lambda: stores.settling.step(large))
    status = stores.statuses.get(large)
    assert (status.cancelled, status.pending) == (CHUNKS * ITEMS, 0)


def _wait_for_nobody(connection: Any) -> None:
    connection.exec_driver_sql("SELECT set_config('lock_timeout', '500ms', true)")


def test_whoever_ends_a_job_may_be_killed_and_the_reconciler_goes_on(
    stores: Stores, database: Database, database_url: str, redis_server: str, tmp_path: Path
) -> None:
    # Given a process that cancels a job, and is killed between two steps
    serve(stores)
    job_id, folder = large_job(stores, CHUNKS), tmp_path / "failpoints"
    folder.mkdir()
    killed(database_url, "end.begun", f"jobs.cancel({job_id!r})", folder, f"settling.STEP = {STEP}")
    assert stores.statuses.get(job_id).state == "cancelled" and open_chunks(database, job_id) > 0
    # When the reconciler has its turns, then all is settled
    reconciler = Reconciler(stores, redis_server, lambda pointers, queue: None)
    turns = until_done(lambda: reconciler.sweep() is None and stores.settling.unsettled() == [job_id])
    assert turns >= 1 and open_chunks(database, job_id) == 0
    assert job_row(database, job_id).unsettled_after is None


def test_a_job_whose_time_is_over_is_ended_at_once_and_settled_in_turns(stores: Stores, database: Database) -> None:
    serve(stores)
    jobs = [large_job(stores, 3 * STEP), submit(stores)]
    with database.write() as connection:
        connection.execute(text("UPDATE jobs SET expires_at = 1"))
    with changed_chunks(database) as changed:
        assert sorted(stores.jobs.expire()) == sorted(jobs)
    assert max(changed) <= STEP
    assert [stores.statuses.get(job_id).pending for job_id in jobs] == [0, 0]
    Keeper(stores).settle()
    assert [open_chunks(database, job_id) for job_id in jobs] == [0, 0]


def test_each_step_gives_back_what_nobody_has_begun_with(stores: Stores, database: Database) -> None:
    # Given a key that was charged for a job, of which one chunk is in hand and four are sent
    worker = serve(stores)
    key = stores.keys.create("limited", quota=Quota(tokens_per_minute=10**9))[0].id
    freeze(database, key)
    job_id = large_job(stores, 3 * STEP, owner=key)
    claim(stores, job_id, 0, worker)
    stores.chunks.dispatch(CARD.id, Priority.BULK)
    assert owed(database, key) == pytest.approx(3 * STEP * TOKENS)
    # When it ends, then a step's worth is given back with the step
    stores.jobs.cancel(job_id)
    assert owed(database, key) == pytest.approx((2 * STEP - 4) * TOKENS, abs=5 * TOKENS)
    # And in the end all of it, but for what was being read; a deletion in the midst leaves out nothing
    stores.settling.step(job_id)
    stores.purges.delete(job_id)
    stores.purges.purge(job_id)  # what the reconciler does with the rest
    assert owed(database, key) == pytest.approx(TOKENS)
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(ChunkRow)).scalar_one() == 0


def test_who_deletes_a_job_that_is_being_settled_does_not_wait_for_that(stores: Stores, database: Database) -> None:
    # Given a job of 50 steps that was just cancelled
    serve(stores)
    job_id = large_job(stores, CHUNKS)
    stores.jobs.cancel(job_id)
    # When it is deleted, then a step or two are done at once
    stores.purges.delete(job_id)
    assert CHUNKS - 4 * STEP <= open_chunks(database, job_id) < CHUNKS
    # And it is gone for everybody, and the reconciler does the rest
    with pytest.raises(UnknownJob):
        stores.jobs.get(job_id)
    housekeeper = Keeper(stores)
    until_done(lambda: housekeeper.purge() is None and stores.purges.marked() == [job_id])
    assert job_count(database) == 0


def test_a_job_that_is_being_settled_leaves_as_an_ended_one(stores: Stores, database: Database) -> None:
    # Given a job that was cancelled and is being settled
    serve(stores)
    job_id = large_job(stores, 3 * STEP)
    stores.jobs.cancel(job_id)
    status = stores.statuses.get(job_id)
    # When it is exported, deleted, and imported again
    sheets = list(Exporter(database).jobs([job_id]))
    stores.purges.delete(job_id)
    Importer(database).take(sheets)
    # Then all of it is settled, and nobody need go on
    assert open_chunks(database, job_id) == 0 and stores.settling.unsettled() == []
    assert stores.statuses.get(job_id) == status
