"""The store of jobs, over both databases."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import func, select, text

from storage.contract.errors import InvalidOption, UnknownJob, WrongState
from storage.contract.ids import new_id
from storage.contract.models import Priority
from storage.contract.states import JobState
from storage.database import Database
from storage.newjobs import NEW_JOB
from storage.outcomes import ItemError
from storage.stores import Stores
from storage.tables import ChunkRow, InputRow, JobRow, ResultRow
from tests.storage.builders import (
    CARD,
    MODEL,
    accept,
    chunk,
    chunk_row,
    chunk_states,
    claim,
    finish,
    made,
    new_job,
    result,
    serve,
    submit,
)

ROWS = (ChunkRow, InputRow, ResultRow, JobRow)


def count_rows(database: Database) -> list[int]:
    with database.read() as connection:
        return [connection.execute(select(func.count()).select_from(row)).scalar_one() for row in ROWS]


def test_a_sealed_job_is_kept_as_it_was_submitted(stores: Stores) -> None:
    serve(stores)
    job_id = submit(stores, 3, priority=Priority.URGENT, revision="5f1c0de", payload="c0ffee", key="monday")
    job = stores.jobs.get(job_id)
    assert (job.id, job.state, job.model, job.model_id) == (job_id, JobState.QUEUED, MODEL, CARD.id)
    assert (job.revision, job.priority, job.total, job.generation) == ("5f1c0de", Priority.URGENT, 6, 0)
    assert (job.payload_hash, job.has_ids) == ("c0ffee", False)
    assert job.options["pooling"] is None and job.options["layer"] == -1


def test_states_are_stored_as_their_own_words(stores: Stores, database: Database) -> None:
    serve(stores)
    job_id = submit(stores)
    with database.read() as connection:
        of_job = {"job": job_id}
        assert connection.execute(text("SELECT state FROM jobs WHERE id = :job"), of_job).scalar() == "queued"
        assert connection.execute(text("SELECT state FROM chunks WHERE job_id = :job"), of_job).scalar() == "pending"
        assert connection.execute(text("SELECT priority FROM jobs WHERE id = :job"), of_job).scalar() == 0


def test_a_job_that_does_not_exist_is_unknown(stores: Stores) -> None:
    missing = new_id()
    for ask in (
        stores.jobs.get,
        stores.jobs.cancel,
        stores.purges.delete,
        stores.jobs.retry_failed,
        stores.statuses.get,
    ):
        with pytest.raises(UnknownJob, match=missing):
            ask(missing)


def test_jobs_are_listed_newest_first_in_pages_and_only_once_sealed(stores: Stores) -> None:
    serve(stores)
    first, second, third = (submit(stores) for _ in range(3))
    accept(stores)
    assert stores.jobs.list_ids() == [third, second, first]
    assert stores.jobs.list_ids(limit=2) == [third, second]
    assert stores.jobs.list_ids(limit=2, before=second) == [first]


def test_a_sealed_job_cannot_be_sealed_again(stores: Stores) -> None:
    serve(stores)
    job_id = submit(stores)
    with pytest.raises(WrongState, match="takes no more texts"):
        stores.jobs.seal(job_id, 99, 9)
    assert stores.jobs.get(job_id).total == 2


def test_an_idempotency_key_belongs_to_one_job(stores: Stores) -> None:
    serve(stores)
    first = submit(stores, key="monday", payload="aa")
    late = accept(stores)
    assert stores.jobs.seal(late, 2, 1, "aa", "monday") is False
    assert stores.jobs.get(late).state == JobState.ACCEPTING
    found = stores.jobs.find_by_key("monday")
    assert found is not None and found.id == first
    assert stores.jobs.find_by_key("tuesday") is None


def test_a_job_accepted_in_one_go_is_as_one_that_was_sealed(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job, chunks = new_job(priority=Priority.URGENT, key_id="miller", expires_in=3600.0), made(2)
    assert stores.jobs.accept(job, chunks, "aa", "monday") == []
    sealed = submit(stores, 2, priority=Priority.URGENT, payload="aa", key="tuesday", owner="miller")
    assert replace(stores.jobs.get(job.id), id=sealed) == stores.jobs.get(sealed)
    with database.read() as connection:
        row, other = (connection.execute(select(JobRow).where(JobRow.id == one)).one() for one in (job.id, sealed))
    # (on PostgreSQL the clock goes on within a statement)
    assert row.expires_at - row.created_at == pytest.approx(3_600_000, abs=50_000)
    assert (row.key_id, row.chunk_count, row.finished_at) == (other.key_id, other.chunk_count, None)
    finish(stores, job.id, 2, worker)
    assert [page.first for page in stores.results.pages(job.id)] == [0, 2]
    assert stores.statuses.get(job.id).state == "completed"


def test_a_job_accepted_in_one_go_before_any_worker_came_is_bound_when_its_model_is_known(stores: Stores) -> None:
    early = new_job(model_id=None)
    assert stores.jobs.accept(early, made(1)) == []
    assert stores.jobs.get(early.id).model_id is None
    serve(stores)
    late = new_job(model_id=None)
    assert stores.jobs.accept(late, made(1)) == []
    assert stores.jobs.get(early.id).model_id == stores.jobs.get(late.id).model_id == CARD.id


def test_a_job_accepted_in_one_go_may_be_marked_as_sent_behind_what_is_older(stores: Stores) -> None:
    serve(stores)
    # Given an older job that nobody has sent yet
    older = submit(stores, 3)
    # When a job is accepted and marks what the window of four has room for
    job = new_job()
    marked = stores.jobs.accept(job, made(3), marking=True)
    # Then both have a part in it, nothing more is to be sent, and what was marked may be claimed
    assert marked is not None and len(marked) == 4
    assert {pointer.job_id for pointer in marked} == {older, job.id}
    assert stores.chunks.open_by_state() == {"pending": 2, "dispatched": 4, "leased": 0}
    assert stores.chunks.dispatch(CARD.id, Priority.BULK) == []


def test_of_two_jobs_with_one_key_the_second_leaves_nothing_when_it_is_refused(stores: Stores) -> None:
    serve(stores)
    first, second, others = (new_job() for _ in range(3))
    assert stores.jobs.accept(first, made(1), "aa", "monday") == []
    assert stores.jobs.accept(second, made(1), "aa", "monday") is None
    with pytest.raises(UnknownJob):
        stores.jobs.get(second.id)
    # And a key is its owner's alone
    other = replace(others, key_id="miller")
    assert stores.jobs.accept(other, made(1), "bb", "monday") == []
    for owner, job in (("", first), ("miller", other)):
        found = stores.jobs.find_by_key("monday", owner)
        assert found is not None and found.id == job.id


def test_an_id_that_another_transaction_is_about_to_take_is_waited_for(
    stores: Stores, open_again: Callable[[], Stores]
) -> None:
    # Given a job whose acceptance is under way
    serve(stores)
    job, other = new_job(), open_again()
    with ThreadPoolExecutor(1) as pool:
        with stores.database.write() as accepting:
            accepting.execute(NEW_JOB, job.to_row())
            # When somebody asks for the same id, he is not answered before that has ended
            taken = pool.submit(other.jobs.create, job)
            with pytest.raises(TimeoutError):
                taken.result(timeout=0.5)
        # Then he is told that it is there
        assert taken.result(timeout=30) is False
    assert stores.purges.discard(job.id)
    assert other.jobs.create(job)


def test_jobs_without_an_idempotency_key_do_not_get_in_each_others_way(stores: Stores) -> None:
    serve(stores)
    assert submit(stores) != submit(stores)


def test_the_key_of_a_deleted_job_is_free_again(stores: Stores) -> None:
    worker = serve(stores)
    first = submit(stores, key="monday")
    finish(stores, first, 1, worker)
    stores.purges.delete(first)
    second = submit(stores, key="monday")
    found = stores.jobs.find_by_key("monday")
    assert found is not None and found.id == second


def test_cancel_settles_what_has_no_outcome_and_keeps_what_has(stores: Stores, database: Database) -> None:
    # Given a job with a chunk done, one leased, one sent and one pending
    worker = serve(stores)
    job_id = submit(stores, 4)
    finish(stores, job_id, 1, worker)
    claim(stores, job_id, 1, worker)
    stores.chunks.dispatch(CARD.id, Priority.BULK, most=1)
    assert chunk_states(database, job_id) == ["done", "leased", "dispatched", "pending"]
    # When it is cancelled
    assert stores.jobs.cancel(job_id) is True
    # Then only what was done stays
    assert chunk_states(database, job_id) == ["done", "cancelled", "cancelled", "cancelled"]
    assert chunk_row(database, job_id, 1).lease_owner is None
    assert stores.jobs.get(job_id).state == JobState.CANCELLED
    # And to cancel it again changes nothing
    assert stores.jobs.cancel(job_id) is False


def test_a_completed_job_and_one_being_submitted_cannot_be_cancelled(stores: Stores) -> None:
    worker = serve(stores)
    done = submit(stores)
    finish(stores, done, 1, worker)
    for job_id, state in ((done, "completed"), (accept(stores), "accepting")):
        with pytest.raises(WrongState, match=f"is {state} and cannot be cancelled"):
            stores.jobs.cancel(job_id)
        assert stores.jobs.get(job_id).state == state


def test_a_failed_job_says_why_and_keeps_what_it_has(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores, 2)
    finish(stores, job_id, 1, worker)
    stores.jobs.fail(job_id, InvalidOption("dimensions is 9, but mill/grain-small has 4."))
    status = stores.statuses.get(job_id)
    assert status.state == "failed" and status.finished_at is not None
    assert status.error == {"code": "invalid_option", "message": "dimensions is 9, but mill/grain-small has 4."}
    assert chunk_states(database, job_id) == ["done", "cancelled"]


def test_to_fail_a_job_that_has_ended_changes_nothing(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores)
    finish(stores, job_id, 1, worker)
    stores.jobs.fail(job_id, InvalidOption("too late"))
    assert stores.jobs.get(job_id).state == JobState.COMPLETED
    assert stores.statuses.get(job_id).error is None


def test_retry_sends_only_chunks_with_failed_items_round_again(stores: Stores, database: Database) -> None:
    # Given a completed job whose second chunk has a failed item, and has crashed a worker
    worker = serve(stores)
    job_id = submit(stores, 2)
    finish(stores, job_id, 1, worker)
    (first_try,) = claim(stores, job_id, 1, worker)
    stores.leases.release_worker(worker, died=True)
    (held,) = claim(stores, job_id, 1, worker)
    stores.leases.commit([(held, result(failed=[1]))])
    # When it is retried
    assert stores.jobs.retry_failed(job_id) == 1
    # Then only that chunk is pending, its old crash forgotten and its token kept
    job = stores.jobs.get(job_id)
    assert (job.state, job.generation) == (JobState.QUEUED, 1)
    assert chunk_states(database, job_id) == ["done", "pending"]
    row = chunk_row(database, job_id, 1)
    assert (row.crashes, row.failed, row.token) == (0, 0, 2)
    assert first_try.token == 1
    # And a second retry is refused, since the job is no longer completed
    with pytest.raises(WrongState, match="is queued"):
        stores.jobs.retry_failed(job_id)


def test_a_call_is_not_sent_round_again(stores: Stores) -> None:
    worker = serve(stores)
    job = new_job(kind="call")
    assert stores.jobs.accept(job, [chunk(0)]) is not None
    finish(stores, job.id, 1, worker, failed=[1])
    with pytest.raises(WrongState, match="nobody waits for any more"):
        stores.jobs.retry_failed(job.id)
    assert stores.jobs.get(job.id).state == JobState.COMPLETED


def test_retry_leaves_a_job_whose_items_are_only_invalid_as_it_was(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores, [chunk(0, ("wheat", ""), invalid={1: ItemError("invalid_item", "empty")})])
    (held,) = claim(stores, job_id, 0, worker)
    stores.leases.commit([(held, result(failed=[1]))])
    assert stores.jobs.retry_failed(job_id) == 0
    job = stores.jobs.get(job_id)
    assert (job.state, job.generation) == (JobState.COMPLETED, 0)


def test_retry_leaves_a_chunk_alone_whose_failed_items_are_all_invalid(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    refused = {1: ItemError("invalid_item", "empty")}
    job_id = submit(stores, [chunk(0, ("wheat", ""), invalid=refused), chunk(1, ("", "rye"), invalid={0: refused[1]})])
    finish(stores, job_id, 1, worker, failed=[1])
    (held,) = claim(stores, job_id, 1, worker)
    stores.leases.commit([(held, result(failed=[0, 1]))])
    assert stores.jobs.retry_failed(job_id) == 1
    assert chunk_states(database, job_id) == ["done", "pending"]
    assert chunk_row(database, job_id, 1).failed == 1  # the invalid item's error stays
