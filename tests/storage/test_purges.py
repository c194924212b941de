"""Jobs that go: deleted, abandoned, or kept long enough."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from storage.contract.errors import UnknownJob, WrongState
from storage.contract.keeping import DAY, Keeping
from storage.database import Database, now_ms
from storage.stores import Stores
from storage.tables import JobRow
from tests.storage.builders import accept, chunk, claim, finish, new_job, result, serve, submit
from tests.storage.test_jobs import count_rows
from worker.keeper import Keeper


def test_delete_removes_every_row_of_a_job_and_no_row_of_another(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    kept = submit(stores, 2)
    gone = submit(stores, 70)  # more chunks than one step deletes
    finish(stores, gone, 70, worker)
    stores.purges.delete(gone)
    assert count_rows(database) == [2, 2, 0, 1]
    assert stores.jobs.list_ids() == [kept]
    with pytest.raises(UnknownJob):
        stores.jobs.get(gone)


@pytest.mark.parametrize("sealed", [True, False])
def test_of_a_large_job_whoever_deletes_it_removes_the_first_rows_alone(
    stores: Stores, database: Database, sealed: bool
) -> None:
    # Given a job of more chunks than go while somebody waits
    serve(stores)
    job_id = submit(stores, 300) if sealed else accept(stores, 300)
    # When it is deleted
    if sealed:
        stores.jobs.cancel(job_id)
        stores.purges.delete(job_id)
    else:
        assert stores.purges.discard(job_id)
    # Then nobody knows it, and some of it is still there
    with pytest.raises(UnknownJob):
        stores.jobs.get(job_id)
    assert 0 < count_rows(database)[0] <= 100
    # And the rest goes with the reconciler's turns
    assert stores.purges.marked() == [job_id]
    keeper = Keeper(stores)
    while stores.purges.marked():
        keeper.purge()
    assert count_rows(database) == [0, 0, 0, 0]


def test_a_job_at_work_cannot_be_deleted(stores: Stores, database: Database) -> None:
    serve(stores)
    job_id = submit(stores)
    with pytest.raises(WrongState, match="Cancel it first"):
        stores.purges.delete(job_id)
    assert count_rows(database) == [1, 1, 0, 1]


def test_discard_removes_an_unsealed_job_and_never_a_sealed_one(stores: Stores, database: Database) -> None:
    serve(stores)
    unsealed, sealed = accept(stores, 2), submit(stores)
    stores.purges.discard(unsealed)
    stores.purges.discard(sealed)
    assert count_rows(database) == [1, 1, 0, 1]
    assert stores.jobs.list_ids() == [sealed]


def test_purge_takes_up_a_deletion_that_was_cut_off(stores: Stores, database: Database) -> None:
    # Given a job that was marked as deleted by a process that died then
    worker = serve(stores)
    job_id = submit(stores)
    finish(stores, job_id, 1, worker)
    with database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(deleted_at=now_ms()))
    with pytest.raises(UnknownJob):
        stores.jobs.get(job_id)
    # When the reconciler looks
    assert stores.purges.marked() == [job_id]
    stores.purges.purge(job_id)
    # Then nothing is left
    assert count_rows(database) == [0, 0, 0, 0]


def test_purge_leaves_a_job_alone_that_is_not_marked(stores: Stores, database: Database) -> None:
    serve(stores)
    job_id = submit(stores)
    stores.purges.purge(job_id)
    assert count_rows(database) == [1, 1, 0, 1]


def test_only_submissions_silent_for_long_are_abandoned(stores: Stores, database: Database) -> None:
    serve(stores)
    silent, busy, sealed = accept(stores), accept(stores), submit(stores)
    with database.write() as connection:
        long_ago = update(JobRow).where(JobRow.id.in_([silent, busy, sealed])).values(touched_at=now_ms() - 100_000)
        connection.execute(long_ago)
    stores.chunks.append(busy, [chunk(1)])
    stores.purges.mark(abandoned_after=60_000)
    assert stores.purges.marked() == [silent]
    # And a producer that wakes up then is told, instead of being promised what is about to be purged
    with pytest.raises(WrongState, match="takes no more texts"):
        stores.chunks.append(silent, [chunk(1)])
    with pytest.raises(WrongState, match="takes no more texts"):
        stores.jobs.seal(silent, 2, 1)


def test_ended_jobs_go_when_their_time_is_over_and_open_ones_never(stores: Stores, database: Database) -> None:
    # Given jobs that are kept for a day: an old one that has ended, a new one, and an old one that is still open
    worker = serve(stores)
    old, new, unfinished = (submit(stores, keeping=Keeping(1)) for _ in range(3))
    for job_id in (old, new):
        finish(stores, job_id, 1, worker)
    with database.write() as connection:
        kept_long = update(JobRow).values(created_at=now_ms() - 2 * DAY, kept_until=JobRow.kept_until - 2 * DAY)
        connection.execute(kept_long.where(JobRow.id.in_([old, unfinished])))
    # When it is looked what should go
    assert stores.purges.mark(abandoned_after=60_000) == 1
    # Then the old one alone is unknown at once, and gone soon
    with pytest.raises(UnknownJob):
        stores.jobs.get(old)
    for job_id in stores.purges.marked():
        stores.purges.purge(job_id)
    assert sorted(stores.jobs.list_ids()) == sorted([new, unfinished])
    assert count_rows(database)[0] == 2


def test_a_job_of_which_nothing_was_said_never_goes(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores)
    finish(stores, job_id, 1, worker)
    with database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(finished_at=1))
    assert stores.purges.mark(abandoned_after=60_000) == 0
    assert stores.statuses.get(job_id).kept_until is None


def test_a_late_commit_into_a_purged_job_leaves_no_row_behind(stores: Stores, database: Database) -> None:
    # Given a chunk at work whose job is cancelled, deleted and half removed
    worker = serve(stores)
    job_id = submit(stores, 2)
    held = claim(stores, job_id, 0, worker)
    stores.jobs.cancel(job_id)
    stores.purges.delete(job_id)
    # When its result comes
    written, _ = stores.leases.commit([(one, result()) for one in held])
    # Then nothing is written
    assert not written
    assert count_rows(database) == [0, 0, 0, 0]


def test_a_calls_job_is_dropped_whatever_it_is_at_and_no_other(stores: Stores, database: Database) -> None:
    # Given a call under way and a job
    worker = serve(stores)
    other = submit(stores)
    call = new_job(kind="call")
    assert stores.jobs.accept(call, [chunk(0)]) is not None
    (held,) = claim(stores, call.id, 0, worker)
    # When both are dropped
    assert stores.purges.drop_calls([call.id, other]) == 1
    # Then the job is still there, and what the worker brings for the call goes nowhere
    assert count_rows(database) == [1, 1, 0, 1]
    stores.leases.commit([(held, result())])
    assert count_rows(database) == [1, 1, 0, 1]


def test_calls_that_were_answered_long_ago_go_and_jobs_stay(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    call, job_id = new_job(kind="call"), submit(stores)
    assert stores.jobs.accept(call, [chunk(0)]) is not None
    finish(stores, call.id, 1, worker)
    finish(stores, job_id, 1, worker)
    assert stores.purges.mark(86_400_000) == 0
    with database.write() as connection:
        connection.execute(update(JobRow).values(finished_at=JobRow.finished_at - 300_001))
    assert stores.purges.mark(86_400_000) == 1
    assert stores.purges.marked() == [call.id]


def test_what_ended_long_enough_ago_is_found_page_by_page_and_nothing_else(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given five jobs that ended ten days ago, one that ended now, one that is open, and one of a batch
    monkeypatch.setattr("storage.purges.MARKED_AT_ONCE", 2)
    worker = serve(stores)
    old = [submit(stores, 1) for _ in range(5)]
    others = [submit(stores, 1) for _ in range(3)]
    for job_id in (*old, *others[1:]):
        finish(stores, job_id, 1, worker)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET kind = 'batch' WHERE CAST(id AS TEXT) = '" + others[2] + "'")
        long_ago = [*old, others[2]]
        aged = update(JobRow).where(JobRow.id.in_(long_ago))
        connection.execute(aged.values(finished_at=JobRow.finished_at - 10 * 86_400_000))
    # When they are asked for, two at a time
    found: list[str] = []
    while some := stores.purges.ended(9.5, *found[-1:]):
        assert len(some) <= 2
        found += some
    # Then those five are found, and none by a longer time
    assert found == sorted(old)
    assert stores.purges.ended(10.5) == []
