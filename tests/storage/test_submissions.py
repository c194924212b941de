"""Jobs on their way in: whole or not at all, and known to be one or the other."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from producer.records import Record
from producer.submission import Submission
from storage.contract import failpoints
from storage.contract.errors import IdempotencyConflict, InvalidItems, StorageUnavailable, UnknownJob
from storage.contract.ids import new_id
from storage.contract.options import JobOptions
from storage.contract.states import JobState
from storage.database import Database
from storage.stores import Stores
from storage.submissions import NewJob
from storage.tables import Row
from tests.storage.builders import CARD, chunk, serve


@contextmanager
def breaking_at(name: str) -> Iterator[None]:
    """Have the database fail at a boundary, once."""
    before, broken = failpoints.reach, False

    def reach(here: str) -> None:
        nonlocal broken
        if here == name and not broken:
            broken = True
            raise StorageUnavailable("The database does not answer.")

    failpoints.reach = reach
    try:
        yield
    finally:
        failpoints.reach = before
    assert broken


def new_job() -> NewJob:
    return NewJob(new_id(), CARD.name, None, CARD.id, JobOptions().to_dict())


def submission(stores: Stores, key: str | None = None, with_ids: bool = False) -> Submission:
    given = {"model": CARD.name, "revision": None, "card": CARD, "options": JobOptions()}
    return Submission(stores, **given, with_ids=with_ids, idempotency_key=key)  # type: ignore[arg-type]


def rows(database: Database) -> dict[str, int]:
    """Return how many rows the tables of jobs have."""
    with database.read() as connection:
        tables = [table for table in Row.metadata.sorted_tables if table.name in ("jobs", "chunks", "inputs")]
        return {table.name: len(connection.execute(table.select()).all()) for table in tables}


def test_a_short_job_is_accepted_in_one_go(stores: Stores, database: Database) -> None:
    serve(stores)
    job = new_job()
    assert stores.submissions.accept(job, [chunk(0), chunk(1)], "hash", "monday")
    record = stores.jobs.get(job.id)
    assert (record.state, record.total, record.payload_hash) == (JobState.QUEUED, 4, "hash")
    assert rows(database) == {"jobs": 1, "chunks": 2, "inputs": 2}


@pytest.mark.parametrize("name", ["submit.appended", "submit.sealing"])
def test_a_short_job_that_breaks_in_the_middle_leaves_nothing(stores: Stores, database: Database, name: str) -> None:
    serve(stores)
    with breaking_at(name), pytest.raises(StorageUnavailable):
        submission(stores).run([Record("wheat")])
    assert rows(database) == {"jobs": 0, "chunks": 0, "inputs": 0}


def test_a_job_whose_key_was_taken_a_moment_before_leaves_nothing(stores: Stores, database: Database) -> None:
    serve(stores)
    first = new_job()
    assert stores.submissions.accept(first, [chunk(0)], "aa", "monday")
    assert not stores.submissions.accept(new_job(), [chunk(0)], "aa", "monday")
    assert rows(database) == {"jobs": 1, "chunks": 1, "inputs": 1}


@pytest.mark.parametrize("texts", [3, 9_000], ids=["short", "long"])
def test_an_answer_that_was_lost_after_the_commit_is_found(stores: Stores, texts: int) -> None:
    serve(stores)
    with breaking_at("submit.sealed"):
        job_id = submission(stores).run([Record("wheat " * 40) for _ in range(texts)])
    record = stores.jobs.get(job_id)
    assert (record.state, record.total) == (JobState.QUEUED, texts)


@pytest.mark.parametrize("texts", [3, 9_000], ids=["short", "long"])
def test_what_was_not_committed_is_told_as_such_and_leaves_nothing(
    stores: Stores, database: Database, texts: int
) -> None:
    serve(stores)
    with breaking_at("submit.sealing"), pytest.raises(StorageUnavailable):
        submission(stores).run([Record("wheat " * 40) for _ in range(texts)])
    assert rows(database) == {"jobs": 0, "chunks": 0, "inputs": 0}


def test_whoever_asks_about_a_commit_under_way_waits_for_it(stores: Stores) -> None:
    # Given a short job about to be committed
    serve(stores)
    job, inside, go_on = new_job(), threading.Event(), threading.Event()
    before = failpoints.reach

    def wait_inside(here: str) -> None:
        if here == "submit.sealing":
            inside.set()
            assert go_on.wait(20)

    failpoints.reach = wait_inside
    producer = threading.Thread(target=stores.submissions.accept, args=(job, [chunk(0)]))
    try:
        producer.start()
        assert inside.wait(20)
        # When somebody asks what became of it, as one does whose connection broke
        asked: list[bool] = []

        def ask() -> None:
            stores.submissions.create(job)
            asked.append(stores.purges.discard(job.id))

        asker = threading.Thread(target=ask)
        asker.start()
        asker.join(0.3)
        # Then there is no answer before the commit, and afterwards the true one
        assert asked == []
    finally:
        go_on.set()
        producer.join()
        failpoints.reach = before
    asker.join(20)
    assert asked == [False]
    assert stores.jobs.get(job.id).state == JobState.QUEUED


def test_what_was_never_begun_can_be_made_sure_never_to_be(stores: Stores) -> None:
    serve(stores)
    job = new_job()
    stores.submissions.create(job)
    assert stores.purges.discard(job.id)
    with pytest.raises(UnknownJob):
        stores.jobs.get(job.id)


def test_a_job_is_created_once(stores: Stores, database: Database) -> None:
    serve(stores)
    job = new_job()
    assert stores.submissions.accept(job, [chunk(0)])
    stores.submissions.create(job)
    assert stores.jobs.get(job.id).state == JobState.QUEUED
    assert rows(database)["jobs"] == 1


@pytest.mark.parametrize("first", [0, 9_000], ids=["not written yet", "written"])
def test_an_id_that_came_before_is_refused_whether_or_not_it_is_written(stores: Stores, first: int) -> None:
    serve(stores)
    records = [Record("wheat " * 40, f"sack-{number}") for number in range(first)]
    records += [Record("rye", "sack-a"), Record("oats", "sack-b"), Record("rye", "sack-a" if not first else "sack-7")]
    with pytest.raises(InvalidItems) as caught:
        submission(stores, with_ids=True).run(records)
    assert [(one.position, one.reason) for one in caught.value.problems] == [(first + 2, "the id has come before")]


def test_the_same_payload_has_the_same_hash_however_it_is_cut(stores: Stores) -> None:
    serve(stores)
    texts = [Record(f"grain {number}") for number in range(2_500)]
    accepted = submission(stores, key="monday").run(texts)
    assert submission(stores, key="monday").run(iter(texts)) == accepted
    with pytest.raises(IdempotencyConflict):
        submission(stores, key="monday").run([*texts[:-1], Record("chaff")])
