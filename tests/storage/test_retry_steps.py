"""Failed items of jobs of very many chunks go round again in short steps, each once, whoever is killed in between."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select, update

from storage import retries
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.database import Database, now_ms
from storage.quotas import Quota
from storage.stores import Stores
from storage.tables import ChunkRow, JobRow, QuotaRow
from tests.storage.builders import CARD, PLENTY, result, serve
from tests.storage.large import ITEMS, TOKENS, changed_chunks, job_row, killed, large_job, until_done
from tests.storage.test_quotas import freeze, limited, owed, refused
from worker import keeper as keeper_module
from worker.keeper import Keeper

#: Chunks of a large job, and of a step.
CHUNKS, STEP = 1_000, 100


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make steps small, and have nobody go on who has just asked for a retry."""
    monkeypatch.setattr(retries, "STEP", STEP)
    monkeypatch.setattr(retries, "AT_ONCE", 0.0)
    # So that what is counted takes several pages, the last of which is empty.
    monkeypatch.setattr(retries, "_COUNTED", 250)


def embed_all(stores: Stores, worker: str, failed: tuple[int, ...] = ()) -> list[str]:
    """Do all that can be sent now; return the jobs that finished."""
    finished: list[str] = []
    while pointers := stores.chunks.dispatch(CARD.id, Priority.BULK):
        for pointer in pointers:
            claims = stores.leases.claim(Pointer(pointer.job_id, pointer.chunk), worker, CARD.id, PLENTY)
            finished += stores.leases.commit([(claim, result(failed=failed)) for claim in claims])[1]
    return finished


def claims_of(database: Database, job_id: str) -> Counter[int]:
    """Return how many chunks of a job were claimed how often."""
    with database.read() as connection:
        return Counter(connection.execute(select(ChunkRow.claims).where(ChunkRow.job_id == job_id)).scalars())


def test_no_statement_of_a_retry_changes_more_than_a_step(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(stores)
    job_id = large_job(stores, CHUNKS, failed=CHUNKS)
    monkeypatch.setattr(retries, "AT_ONCE", 1e9)
    with changed_chunks(database) as changed:
        assert stores.jobs.retry_failed(job_id) == CHUNKS
    assert max(changed) == STEP and sum(changed) == CHUNKS
    status = stores.statuses.get(job_id)
    assert (status.state, status.pending, status.failed) == ("queued", CHUNKS, 0)
    assert job_row(database, job_id).unretried_from is None


def test_a_job_is_not_completed_before_all_of_it_went_round_again(stores: Stores, database: Database) -> None:
    # Given a job whose failed items are going round again, of which the first step was sent
    worker = serve(stores)
    job_id = large_job(stores, 3 * STEP, failed=3 * STEP)
    assert stores.jobs.retry_failed(job_id) == 3 * STEP
    # When all that is done, and fails again
    assert embed_all(stores, worker, failed=(1,)) == []
    # Then the job goes on, as the rest of it does
    status = stores.statuses.get(job_id)
    assert (status.state, status.succeeded, status.failed, status.pending) == ("running", 3 * STEP, 3 * STEP, 0)
    assert stores.jobs.finish_all() == []
    # When the next step is sent and done, and the last one too, then it ends, and each item has gone round once
    assert stores.retries.step(job_id) and embed_all(stores, worker) == []
    until_done(lambda: stores.retries.step(job_id))
    assert embed_all(stores, worker) == [job_id]
    status = stores.statuses.get(job_id)
    assert (status.state, status.failed, status.pending) == ("completed", STEP, 0)
    assert claims_of(database, job_id) == {1: 3 * STEP}


def test_what_is_still_to_go_round_again_has_no_outcome_yet(stores: Stores, database: Database) -> None:
    # Given a job whose failed items are going round again, of which the first step was sent and done
    worker = serve(stores)
    job_id = large_job(stores, 2 * STEP + 1, failed=2 * STEP + 1)
    stores.jobs.retry_failed(job_id)
    embed_all(stores, worker)
    # When its results are read, then what was sent has its new outcome, and nothing behind that an old one
    last = ITEMS * STEP
    settled = [page.first for page in stores.results.pages(job_id, settled_only=True)]
    assert settled == list(range(0, last, ITEMS))
    page = stores.results.page_at(job_id, last)
    assert page is not None and (page.rest, page.errors) == ("pending", {})
    # Unless the job ends before: then the errors that it had are the outcome
    stores.jobs.cancel(job_id)
    page = stores.results.page_at(job_id, last)
    assert page is not None and list(page.errors) == [1]


def test_retries_of_several_large_jobs_take_turns(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given two jobs with failed items of many steps, and a reconciler with time for one step
    serve(stores)
    job_ids = [large_job(stores, 5 * STEP, failed=5 * STEP) for _ in range(2)]
    for job_id in job_ids:
        stores.jobs.retry_failed(job_id)
    monkeypatch.setattr(keeper_module, "_SETTLING", -1.0)
    keeper = Keeper(stores)
    # When it has had a turn for each, then both have come further
    before = {job_id: job_row(stores.database, job_id).unretried_from for job_id in job_ids}
    for _ in job_ids:
        keeper.settle()
    assert all(job_row(stores.database, job_id).unretried_from > before[job_id] for job_id in job_ids)


def test_a_job_of_which_nothing_is_open_at_the_last_step_is_completed_all_the_same(stores: Stores) -> None:
    # Given as many failed chunks as two steps have: whether that is all is seen at the third
    worker = serve(stores)
    job_id = large_job(stores, 2 * STEP, failed=2 * STEP)
    stores.jobs.retry_failed(job_id)
    assert stores.retries.step(job_id)
    assert embed_all(stores, worker) == [] and stores.jobs.finish_all() == []
    # Then the reconciler finds that it has ended
    Keeper(stores).settle()
    assert stores.jobs.finish_all() == [job_id]
    assert stores.statuses.get(job_id).succeeded == 2 * STEP * ITEMS


def test_whoever_asks_for_a_retry_may_be_killed_and_each_item_goes_round_once(
    stores: Stores, database: Database, database_url: str, tmp_path: Path
) -> None:
    worker = serve(stores)
    job_id, folder = large_job(stores, CHUNKS, failed=CHUNKS), tmp_path / "failpoints"
    folder.mkdir()
    killed(database_url, "retry.begun", f"jobs.retry_failed({job_id!r})", folder, f"retries.STEP = {STEP}")
    assert job_row(database, job_id).unretried_from == STEP * ITEMS
    # When what was sent is done and fails again, and the reconciler has its turns beside that
    assert embed_all(stores, worker, failed=(1,)) == []
    keeper = Keeper(stores)
    until_done(lambda: keeper.settle() is None and stores.retries.unretried() == [job_id])
    # Then each item went round once more, and no more often
    assert embed_all(stores, worker) == [job_id] and claims_of(database, job_id) == {1: CHUNKS}
    status = stores.statuses.get(job_id)
    assert (status.state, status.failed, status.succeeded) == ("completed", STEP, CHUNKS * ITEMS - STEP)


def test_a_chunk_that_is_split_meanwhile_does_not_go_round_twice(stores: Stores, database: Database) -> None:
    # Given a retry of which the first step was sent
    worker = serve(stores)
    job_id = large_job(stores, 2 * STEP, failed=2 * STEP)
    stores.jobs.retry_failed(job_id)
    # When a chunk of that step kills processes, until each half of it is given up
    for number in (STEP - 1, STEP - 1, 2 * STEP + 1, 2 * STEP + 1, 2 * STEP + 1):
        stores.leases.claim(Pointer(job_id, number), worker, CARD.id, 0)
        stores.leases.release_worker(worker, died=True)
    with database.read() as connection:
        halves = select(ChunkRow.state, ChunkRow.failed).where(ChunkRow.number == 2 * STEP + 1)
        assert tuple(connection.execute(halves).one()) == ("done", 1)
    # Then the steps that follow pass it over, though its number is behind theirs
    until_done(lambda: stores.retries.step(job_id))
    with database.read() as connection:
        assert connection.execute(halves).scalar_one() == "done"


def test_a_job_that_was_completed_too_early_is_opened_again(stores: Stores, database: Database) -> None:
    # Given a retry that a program of the version before has taken for done after its first step
    worker = serve(stores)
    job_id = large_job(stores, 2 * STEP, failed=2 * STEP)
    stores.jobs.retry_failed(job_id)
    embed_all(stores, worker)
    with database.write() as connection:
        early = {"state": "completed", "finished_at": now_ms()}
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(early))
    # When the reconciler has its turn, then the rest goes round
    Keeper(stores).settle()
    assert stores.statuses.get(job_id).state == "queued"
    assert embed_all(stores, worker) == [job_id]
    assert stores.statuses.get(job_id).succeeded == 2 * STEP * ITEMS


def test_a_retry_that_is_cancelled_leaves_errors_that_were_not_sent(stores: Stores, database: Database) -> None:
    # Given a key that is charged for a retry as it is sent, ten tokens an item
    serve(stores)
    key = stores.keys.create("limited", quota=Quota(tokens_per_minute=10**9))[0].id
    freeze(database, key)
    job_id = large_job(stores, 3 * STEP, owner=key, failed=3 * STEP)
    before = owed(database, key)
    stores.jobs.retry_failed(job_id)
    assert owed(database, key) - before == pytest.approx(STEP * TOKENS / ITEMS)
    stores.retries.step(job_id)
    assert owed(database, key) - before == pytest.approx(2 * STEP * TOKENS / ITEMS)
    # When it is cancelled, then what was sent is cancelled and given back, and the rest of the errors stay
    stores.jobs.cancel(job_id)
    until_done(lambda: stores.settling.step(job_id))
    assert owed(database, key) - before == pytest.approx(0)
    status = stores.statuses.get(job_id)
    assert (status.state, status.failed, status.cancelled) == ("cancelled", STEP, 2 * STEP)
    assert stores.retries.unretried() == [] and not stores.retries.step(job_id)


def test_there_must_be_room_for_all_of_a_retry(stores: Stores, database: Database) -> None:
    # Given a key with room for 2,000 tokens, and a retry of 3,000, a step of which would be 1,000
    serve(stores)
    key = limited(stores, tokens_per_minute=10**9)
    job_id = large_job(stores, 3 * STEP, owner=key, failed=3 * STEP)
    freeze(database, key)
    with database.write() as connection:
        connection.execute(update(QuotaRow).values(tokens_per_minute=4_000, owed=2_000.0))
    # Then it is refused as a whole
    assert refused(lambda: stores.jobs.retry_failed(job_id)).retry_after is not None
    assert stores.statuses.get(job_id).state == "completed"
