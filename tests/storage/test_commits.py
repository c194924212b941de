"""What a commit writes, and what a late one does not, over both databases."""

import threading

import pytest
from sqlalchemy import select

from storage import counters
from storage.attempts import Claim
from storage.contract.states import JobState
from storage.database import Database, now_ms
from storage.outcomes import ItemError
from storage.stores import Stores
from storage.tables import ResultRow
from tests.storage.builders import (
    PLENTY,
    chunk_row,
    chunk_states,
    claim,
    finish,
    result,
    serve,
    set_chunk,
    submit,
)


def result_tokens(database: Database, job_id: str) -> list[int]:
    with database.read() as connection:
        wanted = select(ResultRow.token).where(ResultRow.job_id == job_id).order_by(ResultRow.number)
        return list(connection.execute(wanted).scalars())


def test_a_commit_writes_counts_and_vectors_and_gives_the_lease_up(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores, 2)
    (held,) = claim(stores, job_id, 0, worker)
    written, finished = stores.leases.commit([(held, result(failed=[1], cut=[0]))])
    assert (written, finished) == ({held.key}, [])
    row = chunk_row(database, job_id)
    assert (row.state, row.lease_owner, row.lease_expires) == ("done", None, None)
    assert (row.succeeded, row.failed, row.truncated, row.tokens) == (1, 1, 1, 14)
    assert row.done_at is not None
    assert result_tokens(database, job_id) == [1]


def test_the_last_commit_finishes_the_job(stores: Stores) -> None:
    worker = serve(stores)
    job_id, other = submit(stores, 2), submit(stores, 1)
    held = [*claim(stores, job_id, 0, worker), *claim(stores, job_id, 1, worker), *claim(stores, other, 0, worker)]
    assert stores.leases.commit([(held[0], result())]) == ({held[0].key}, [])
    written, finished = stores.leases.commit([(h, result()) for h in held[1:]])
    assert written == {held[1].key, held[2].key}
    assert sorted(finished) == sorted([job_id, other])
    assert stores.jobs.get(job_id).state == JobState.COMPLETED
    assert stores.statuses.get(job_id).finished_at is not None


def late_by_expiry(stores: Stores, database: Database, job_id: str) -> None:
    set_chunk(database, job_id, 0, lease_expires=now_ms() - 1)
    claim(stores, job_id, 0, serve(stores))


def late_by_release(stores: Stores, database: Database, job_id: str) -> None:
    set_chunk(database, job_id, 0, lease_expires=now_ms() - 1)
    stores.leases.release_expired()


def late_by_cancel(stores: Stores, database: Database, job_id: str) -> None:
    stores.jobs.cancel(job_id)


def late_by_its_own_next_claim(stores: Stores, database: Database, job_id: str) -> None:
    set_chunk(database, job_id, 0, lease_expires=now_ms() - 1)
    claim(stores, job_id, 0, chunk_row(database, job_id).lease_owner)


@pytest.mark.parametrize("lose", [late_by_expiry, late_by_release, late_by_cancel, late_by_its_own_next_claim])
def test_a_late_commit_changes_nothing(stores: Stores, database: Database, lose: object) -> None:
    # Given a claim that was lost while its owner worked
    worker = serve(stores)
    job_id = submit(stores)
    (late,) = claim(stores, job_id, 0, worker)
    assert callable(lose)
    lose(stores, database, job_id)
    before = chunk_row(database, job_id)
    # When the owner commits
    assert stores.leases.commit([(late, result())]) == (set(), [])
    # Then no row has changed and no result is there
    assert chunk_row(database, job_id) == before
    assert result_tokens(database, job_id) == []


def test_a_second_attempt_never_changes_what_the_first_committed(stores: Stores, database: Database) -> None:
    slow, quick = serve(stores), serve(stores)
    job_id = submit(stores)
    (late,) = claim(stores, job_id, 0, slow)
    set_chunk(database, job_id, 0, lease_expires=now_ms() - 1)
    (held,) = claim(stores, job_id, 0, quick)
    stores.leases.commit([(held, result(value=1.0))])
    assert stores.leases.commit([(late, result(value=9.0))]) == (set(), [])
    # And one that asks again, since the answer was lost, hears that it is committed; that changes nothing either
    counters.take()
    assert stores.leases.commit([(held, result(value=9.0))]) == ({held.key}, [])
    counted = counters.take()
    assert (counted["commits_resolved"], counted["commits_late"]) == (1, 0)
    (page,) = stores.results.pages(job_id)
    matrix = page.matrix()
    assert matrix is not None and matrix[0, 0] == 1.0
    assert result_tokens(database, job_id) == [held.token]


def test_a_token_that_a_failover_gave_out_again_is_its_new_owners_alone(stores: Stores, database: Database) -> None:
    # Given a claim that a standby had not heard of when it took over, which then gives its token to another worker
    slow, quick = serve(stores), serve(stores)
    job_id = submit(stores)
    (late,) = claim(stores, job_id, 0, slow)
    set_chunk(database, job_id, 0, state="dispatched", token=0, lease_owner=None, lease_expires=None)
    (held,) = claim(stores, job_id, 0, quick)
    assert held.key == late.key
    before = chunk_row(database, job_id)
    # When the first one goes on as if nothing had happened
    assert stores.leases.heartbeat(slow, [late.key]) == set()
    stores.leases.release([late])
    assert stores.leases.give_up([late], ItemError("internal", "Nobody foresaw it.")) == []
    assert stores.leases.commit([(late, result(value=9.0))]) == (set(), [])
    # Then nothing has changed, and the second one's work counts
    assert chunk_row(database, job_id) == before and result_tokens(database, job_id) == []
    assert stores.leases.commit([(held, result(value=1.0))]) == ({held.key}, [job_id])


def test_late_results_do_not_hinder_the_good_ones_beside_them(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    lost, kept = submit(stores), submit(stores)
    (late,), (good,) = claim(stores, lost, 0, worker), claim(stores, kept, 0, worker)
    late_by_release(stores, database, lost)
    assert stores.leases.commit([(late, result()), (good, result())]) == ({good.key}, [kept])
    assert chunk_states(database, lost) == ["pending"]


def test_a_commit_that_breaks_in_the_middle_writes_nothing(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores, 2)
    first, second = claim(stores, job_id, 0, worker, PLENTY)
    broken = result()
    object.__setattr__(broken, "dtype", "float99")
    with pytest.raises(KeyError):
        stores.leases.commit([(first, result()), (second, broken)])
    assert chunk_states(database, job_id) == ["leased", "leased"]
    assert result_tokens(database, job_id) == []


def test_retried_items_are_committed_over_the_old_row_once(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores)
    finish(stores, job_id, 1, worker, failed=[1])
    stores.jobs.retry_failed(job_id)
    (held,) = claim(stores, job_id, 0, worker)
    ((_, found),) = stores.leases.inputs([held])
    assert found.kept is not None and found.kept.token == 1
    stores.leases.commit([(held, result())])
    assert result_tokens(database, job_id) == [2]
    status = stores.statuses.get(job_id)
    assert (status.state, status.succeeded, status.failed) == ("completed", 2, 0)


def test_the_texts_of_a_deleted_job_are_not_there_for_a_late_worker(stores: Stores) -> None:
    worker = serve(stores)
    job_id = submit(stores)
    (late,) = claim(stores, job_id, 0, worker)
    stores.jobs.cancel(job_id)
    stores.purges.delete(job_id)
    assert stores.leases.inputs([late]) == []
    assert stores.leases.commit([(late, result())]) == (set(), [])


def test_the_backstop_finishes_a_job_whose_last_commit_did_not(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    stuck, running = submit(stores), submit(stores, 2)
    claim(stores, stuck, 0, worker)
    finish(stores, running, 1, worker)
    set_chunk(database, stuck, 0, state="done", succeeded=2)
    assert stores.jobs.finish_all() == [stuck]
    assert stores.jobs.get(stuck).state == JobState.COMPLETED
    assert stores.jobs.get(running).state == JobState.RUNNING
    assert stores.jobs.finish_all() == []


def test_two_workers_that_commit_the_last_two_chunks_at_once_finish_the_job_once(stores: Stores) -> None:
    # Given jobs of two chunks, each held by two workers
    workers = [serve(stores), serve(stores)]
    jobs = [submit(stores, 2) for _ in range(10)]
    held: list[list[Claim]] = [[claim(stores, job_id, n, workers[n])[0] for job_id in jobs] for n in range(2)]
    barrier, finished, errors = threading.Barrier(2, timeout=30), [], []

    def commit_all(claims: list[Claim]) -> None:
        try:
            for one in claims:
                barrier.wait()
                finished.extend(stores.leases.commit([(one, result())])[1])
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    # When both commit at once, again and again
    threads = [threading.Thread(target=commit_all, args=(claims,)) for claims in held]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # Then each job was finished by one of them, never by none or both
    assert errors == []
    assert sorted(finished) == sorted(jobs)
    assert {stores.jobs.get(job_id).state for job_id in jobs} == {JobState.COMPLETED}


def test_one_chunk_is_claimed_by_one_of_many_who_want_it_at_once(stores: Stores, database: Database) -> None:
    workers = [serve(stores) for _ in range(4)]
    job_id = submit(stores, 8)
    barrier, held, errors = threading.Barrier(4, timeout=30), [], []

    def claim_all(worker: str) -> None:
        try:
            for number in range(8):
                barrier.wait()
                held.extend((one.number, one.token) for one in claim(stores, job_id, number, worker, room=40))
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=claim_all, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert sorted(held) == [(number, 1) for number in range(8)]
    assert chunk_states(database, job_id) == ["leased"] * 8
