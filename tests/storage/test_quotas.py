"""What a key may have and use is kept to, whoever asks at once, and puts nobody off who has no limit."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event, select, update

from storage import counters, metering
from storage.contract.errors import QuotaExceeded
from storage.database import Database, now_ms
from storage.quotas import Bucket, Quota, owe
from storage.stores import Stores
from storage.tables import QuotaRow
from tests.storage.builders import accept, chunk, claim, finish, made, new_job, result, serve, submit


def limited(stores: Stores, **quota: int) -> str:
    """Make a key with a quota; return its id."""
    return stores.keys.create("limited", quota=Quota(**quota))[0].id


def quick(stores: Stores, owner: str, chunks: int = 1, **given: Any) -> str:
    """Submit a job as a small one is: in one transaction; 20 tokens a chunk."""
    job = new_job(key_id=owner, **given)
    assert stores.jobs.accept(job, made(chunks)) is not None
    return job.id


def refused(do: Callable[[], object]) -> QuotaExceeded:
    """Return the error with which something is refused."""
    with pytest.raises(QuotaExceeded) as error:
        do()
    return error.value


def owed(database: Database, key_id: str) -> float:
    """Return what a key owes by its row."""
    with database.read() as connection:
        return connection.execute(select(QuotaRow.owed).where(QuotaRow.key_id == key_id)).scalar_one()


def pass_time(database: Database, key_id: str, seconds: int) -> None:
    """Let a key's bucket leak for so long, frozen or not."""
    with database.write() as connection:
        earlier = {"as_of": now_ms() - 1000 * seconds}
        connection.execute(update(QuotaRow).where(QuotaRow.key_id == key_id).values(earlier))


@pytest.mark.parametrize(
    ("owed_now", "tokens", "seconds"),
    [
        (0, 60, 0),
        (0, 61, 0),
        (0, 10**9, 0),
        (1, 59, 0),
        (1, 60, 1),
        (30, 40, 10),
        (60, 0, 0),
        (90, 0, 30),
        (600, 60, 600),
    ],
)
def test_a_bucket_tells_how_long_to_wait(owed_now: float, tokens: float, seconds: float) -> None:
    assert Bucket(60, owed_now).wait(tokens) == pytest.approx(seconds)


def test_open_jobs_are_limited_and_an_end_makes_room(stores: Stores) -> None:
    # Given a key that may have two open jobs, and has two, one of them still being submitted
    worker, key = serve(stores), limited(stores, jobs=2)
    first = quick(stores, key)
    accept(stores, owner=key)
    # When it submits a third, either way, then it is refused, and nothing of it is left
    error = refused(lambda: quick(stores, key))
    assert "2 open jobs" in error.message and error.retry_after is not None and error.retry_after >= 1
    refused(lambda: stores.jobs.create(new_job(key_id=key)))
    assert stores.jobs.list_ids(key_id=key) == [first]
    # When it makes a call, or others submit, then that is no matter
    quick(stores, key, kind="call")
    quick(stores, limited(stores, jobs=1))
    quick(stores, "")
    # When a job has ended, then there is room again
    finish(stores, first, 1, worker)
    quick(stores, key)


def test_the_answer_to_too_many_jobs_says_when_one_may_have_ended(stores: Stores, database: Database) -> None:
    # Given a job half of which was done in the thousand seconds since it began
    worker, key = serve(stores), limited(stores, jobs=1)
    job_id = submit(stores, 2, owner=key)
    (held,) = claim(stores, job_id, 0, worker)
    stores.leases.commit([(held, result())])
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET started_at = started_at - 1000000")
    # Then the other half takes as long
    assert refused(lambda: quick(stores, key)).retry_after == pytest.approx(1000, abs=90)


def test_stored_texts_are_limited_while_they_come_in_and_deleting_makes_room(stores: Stores) -> None:
    # Given a key that may keep six texts, and keeps four in a job that has ended
    worker, key = serve(stores), limited(stores, texts=6)
    ended = submit(stores, 2, owner=key)
    finish(stores, ended, 2, worker)
    # When a job of four more comes in at once, then it is refused, and no time is told at which it would not be
    assert refused(lambda: quick(stores, key, 2)).retry_after is None
    # When it comes in step by step, then it is refused as soon as it is too much
    job = new_job(key_id=key)
    stores.jobs.create(job)
    stores.chunks.append(job.id, [chunk(0)])
    refused(lambda: stores.chunks.append(job.id, [chunk(1)]))
    # And what has come in counts though it is not sealed
    refused(lambda: quick(stores, key))
    # When the old job is deleted, then there is room
    stores.purges.delete(ended)
    stores.chunks.append(job.id, [chunk(1)])
    assert stores.jobs.seal(job.id, 4, 2)
    quick(stores, key)
    refused(lambda: quick(stores, key))


def test_tokens_a_minute_are_admitted_as_estimated_and_run_out_with_time(stores: Stores, database: Database) -> None:
    # Given a key for 60 tokens a minute that has submitted 40, in both ways
    serve(stores)
    key = limited(stores, tokens_per_minute=60)
    freeze(database, key)
    quick(stores, key)
    submit(stores, owner=key)
    # When 40 more come, then they are refused, with the time that makes room for them
    error = refused(lambda: quick(stores, key, 2))
    assert (error.retry_after, owed(database, key)) == (20, 40)
    # When that has passed, they are taken
    pass_time(database, key, 20)
    quick(stores, key, 2)
    freeze(database, key)
    # When more than a minute's worth comes, then only an empty bucket takes it, and then runs over
    refused(lambda: quick(stores, key, 10))
    pass_time(database, key, 60)
    quick(stores, key, 10)
    freeze(database, key)
    assert refused(lambda: quick(stores, key)).retry_after == 160
    # And a long submission is refused before its texts are sent
    refused(lambda: stores.jobs.create(new_job(key_id=key)))


def test_a_commit_settles_what_was_really_read_once(stores: Stores, database: Database) -> None:
    # Given a job of two chunks, charged by the estimate
    worker, key = serve(stores), limited(stores, tokens_per_minute=1_000_000)
    freeze(database, key)
    job_id = quick(stores, key, 2)
    claims = [one for number in range(2) for one in claim(stores, job_id, number, worker)]
    # When they are committed, then what they took is owed; and a second answer to one changes nothing
    stores.leases.commit([(held, result()) for held in claims])
    stores.leases.commit([(claims[0], result())])
    assert owed(database, key) == pytest.approx(28)


def test_a_cancelled_job_gives_back_what_nobody_has_begun_with(stores: Stores, database: Database) -> None:
    # Given a job of three chunks, one of them done and one under way
    worker, key = serve(stores), limited(stores, tokens_per_minute=1_000_000)
    freeze(database, key)
    job_id = quick(stores, key, 3)
    finish(stores, job_id, 1, worker)
    claim(stores, job_id, 1, worker)
    assert owed(database, key) == pytest.approx(14 + 20 + 20)
    # When cancelled
    stores.jobs.cancel(job_id)
    assert owed(database, key) == pytest.approx(14 + 20)


def test_nothing_is_asked_about_tokens_while_no_key_has_a_limit(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given statements that are listened to, and a machine that may be slow
    monkeypatch.setattr(metering, "_BELIEVED", 3600.0)
    worker, job_id = serve(stores), submit(stores, 20)
    stores.keys.create("unlimited")
    asked: list[str] = []
    listen = lambda *told: asked.append(told[2]) if "quotas" in told[2] else None  # noqa: E731
    event.listen(database.engine, "before_cursor_execute", listen)
    # When chunk after chunk is committed, and a job is submitted without a key
    finish(stores, job_id, 20, worker)
    quick(stores, "")
    # Then the quotas were asked for once, to know that there is none
    assert len(asked) == 1


@pytest.mark.parametrize("quota", [{"jobs": 3}, {"texts": 6}, {"tokens_per_minute": 60}])
def test_of_many_that_submit_at_once_no_more_come_in_than_may(
    open_again: Callable[[], Stores], stores: Stores, quota: dict[str, int]
) -> None:
    # Given a key that has room for three jobs
    serve(stores)
    key = limited(stores, **quota)
    rivals = [open_again() for _ in range(4)]

    def try_twice(rival: Stores) -> int:
        accepted = 0
        for way in (quick, lambda own, owner: submit(own, owner=owner)):
            try:
                way(rival, key)
                accepted += 1
            except QuotaExceeded:
                pass
        return accepted

    # When eight come at once
    with ThreadPoolExecutor(len(rivals)) as pool:
        accepted = sum(pool.map(try_twice, rivals))
    # Then three came in; of those that came step by step and were refused, some may have stood in another's way
    assert 1 <= accepted <= 3 and len(stores.jobs.list_ids(key_id=key)) == accepted


def test_commits_and_submissions_of_two_keys_never_wait_in_a_circle(
    open_again: Callable[[], Stores], stores: Stores
) -> None:
    # Given two keys with limits and jobs of both, leased in opposite orders by two workers
    serve(stores)
    keys = [limited(stores, tokens_per_minute=10**9) for _ in range(2)]
    jobs = [submit(stores, 20, owner=key) for key in keys]

    def work(orders: list[str]) -> int:
        own, worker = open_again(), serve(stores)
        place = 0 if orders == jobs else 10
        for number in range(place, place + 10):
            held = [one for job_id in orders for one in claim(own, job_id, number, worker)]
            own.leases.commit([(one, result()) for one in held])
            quick(own, keys[number % 2])
        return 1

    # When both commit chunks of both keys together, and submit
    counters.take()
    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(work, [jobs, jobs[::-1]])) == 2
    # Then all is done, and nothing had to be run again
    assert [stores.statuses.get(job_id).state for job_id in jobs] == ["completed", "completed"]
    assert counters.take()["conflicts_retried"] == 0


def freeze(database: Database, key_id: str) -> None:
    """Keep a key's bucket from leaking, as a clock does that is a day ahead."""
    with database.write() as connection:
        ahead = {"as_of": now_ms() + 86_400_000}
        connection.execute(update(QuotaRow).where(QuotaRow.key_id == key_id).values(ahead))


def test_keys_that_owe_together_are_locked_in_one_order(open_again: Callable[[], Stores], stores: Stores) -> None:
    # Given two keys, and two who add to what both owe, each beginning with another one
    first, second = (limited(stores, tokens_per_minute=60) for _ in range(2))

    def add(order: dict[str, float]) -> None:
        database = open_again().database
        for _ in range(100):
            with database.write() as connection:
                owe(connection, order)

    # When they do so again and again at the same time, then neither ever stands in the other's way
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, [{first: 1.0, second: 1.0}, {second: 1.0, first: 1.0}]))
