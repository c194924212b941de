"""A `retry` is held against the quotas of its key as a submission is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.database import Database
from storage.quotas import owe
from storage.stores import Stores
from tests.storage.builders import claim, finish, result, serve
from tests.storage.test_quotas import freeze, limited, owed, pass_time, quick, refused


def failed_job(stores: Stores, worker: str, owner: str, chunks: int = 1) -> str:
    """Return a completed job with one failed item of two a chunk, 20 estimated tokens and 14 read ones each."""
    job_id = quick(stores, owner, chunks)
    finish(stores, job_id, chunks, worker, failed=[1])
    return job_id


def test_a_retry_is_charged_as_a_submission_is(stores: Stores, database: Database) -> None:
    worker, key = serve(stores), limited(stores, tokens_per_minute=1_000_000)
    freeze(database, key)
    job_id = quick(stores, key)
    finish(stores, job_id, 1, worker, failed=[1])
    before = owed(database, key)
    # When one item of two is sent round again, then half of the 20 tokens that the chunk was estimated at is charged
    stores.jobs.retry_failed(job_id)
    assert owed(database, key) - before == pytest.approx(10)
    # When it is read, and has 9 tokens more than the 7 of the item that was kept, then these are settled, once
    (held,) = claim(stores, job_id, 0, worker)
    again = result()
    again.tokens[1] += 2
    again = replace(again, kept_tokens=int(again.tokens[0]))
    for _ in range(2):
        stores.leases.commit([(held, again)])
        assert owed(database, key) - before == pytest.approx(9)


def test_a_retry_that_is_cancelled_gives_back_what_nobody_has_begun_with(stores: Stores, database: Database) -> None:
    # Given a job of two chunks, each with a failed item, that was sent round again for half of 40 tokens
    worker, key = serve(stores), limited(stores, tokens_per_minute=1_000_000)
    freeze(database, key)
    job_id = failed_job(stores, worker, key, chunks=2)
    before = owed(database, key)
    stores.jobs.retry_failed(job_id)
    assert owed(database, key) - before == pytest.approx(20)
    # When one of them is under way, and the job is cancelled, then the other one's are given back
    claim(stores, job_id, 0, worker)
    stores.jobs.cancel(job_id)
    assert owed(database, key) - before == pytest.approx(10)


def test_a_retry_is_one_more_open_job(stores: Stores) -> None:
    # Given a key for one open job, with a job that has failed items
    worker, key = serve(stores), limited(stores, jobs=1)
    job_id = failed_job(stores, worker, key)
    # When another one is open
    other = quick(stores, key)
    # Then the retry is refused, and leaves everything as it was
    error = refused(lambda: stores.jobs.retry_failed(job_id))
    assert "1 open job at a time" in str(error) and error.retry_after is not None
    status = stores.statuses.get(job_id)
    assert (status.state, status.succeeded, status.failed) == ("completed", 1, 1)
    # And once that has ended, it is not
    stores.jobs.cancel(other)
    assert stores.jobs.retry_failed(job_id) == 1


def test_a_retry_asks_for_room_for_the_tokens_of_its_failed_items(stores: Stores, database: Database) -> None:
    # Given a key for 60 tokens a minute that has used them up, with five failed items of about ten tokens each
    worker, key = serve(stores), limited(stores, tokens_per_minute=60)
    job_id = failed_job(stores, worker, key, chunks=5)
    pass_time(database, key, 3600)
    other = quick(stores, key, 1)
    freeze(database, key)
    with database.write() as connection:
        owe(connection, {key: 20.0})
    assert owed(database, key) == 40
    # Then the retry has to wait until there is room for fifty, and nothing is charged
    assert refused(lambda: stores.jobs.retry_failed(job_id)).retry_after == 30
    assert stores.statuses.get(job_id).state == "completed" and owed(database, key) == 40
    pass_time(database, key, 31)
    assert stores.jobs.retry_failed(job_id) == 5
    stores.jobs.cancel(other)


def test_a_retry_of_nothing_asks_for_nothing(stores: Stores) -> None:
    worker, key = serve(stores), limited(stores, jobs=1)
    job_id = quick(stores, key)
    finish(stores, job_id, 1, worker)
    quick(stores, key)
    assert stores.jobs.retry_failed(job_id) == 0
