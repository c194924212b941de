"""One submission: a sealed job or nothing at all, and the truth about which of the two."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from producer import judging
from producer.records import Record
from producer.submission import Submission
from storage.contract import failpoints
from storage.contract.errors import IdempotencyConflict, InvalidItems, StorageUnavailable
from storage.contract.options import JobOptions
from storage.contract.states import JobState
from storage.database import Database
from storage.migrations import migrate
from storage.stores import Stores
from storage.tables import Row
from tests.storage.builders import CARD, serve

#: Texts of a job that is written in several transactions, of a kilobyte each.
LONG = 2_200

SHORT_AND_LONG = pytest.mark.parametrize("texts", [3, LONG], ids=["short", "long"])


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


def submission(stores: Stores, key: str | None = None, with_ids: bool = False) -> Submission:
    given = {"model": CARD.name, "revision": None, "card": CARD, "options": JobOptions()}
    return Submission(stores, **given, with_ids=with_ids, idempotency_key=key)  # type: ignore[arg-type]


def records(count: int) -> Iterator[Record]:
    return (Record("wheat " * 170, f"sack-{number}") for number in range(count))


def rows(database: Database) -> dict[str, int]:
    """Return how many rows the tables of jobs and texts have."""
    with database.read() as connection:
        tables = [table for table in Row.metadata.sorted_tables if table.name in ("jobs", "chunks", "inputs")]
        return {table.name: len(connection.execute(table.select()).all()) for table in tables}


@SHORT_AND_LONG
def test_an_answer_that_was_lost_after_the_commit_is_found(stores: Stores, texts: int) -> None:
    serve(stores)
    with breaking_at("submit.sealed"):
        job_id = submission(stores).run(records(texts))
    record = stores.jobs.get(job_id)
    assert (record.state, record.total) == (JobState.QUEUED, texts)


@SHORT_AND_LONG
def test_what_was_not_committed_is_told_as_such_and_leaves_nothing(
    stores: Stores, database: Database, texts: int
) -> None:
    serve(stores)
    with breaking_at("submit.sealing"), pytest.raises(StorageUnavailable):
        submission(stores).run(records(texts))
    assert rows(database) == {"jobs": 0, "chunks": 0, "inputs": 0}


def test_what_cannot_be_discarded_at_once_is_before_the_next_submission(tmp_path: Path) -> None:
    # Given a submission that is cut off, by something that takes the table of jobs away as well
    database = Database(f"sqlite:///{tmp_path}/mill.sqlite3")
    migrate(database)
    stores = Stores.on(database)
    serve(stores)

    def rename(old: str, new: str) -> None:
        with database.write() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")

    def cut() -> Iterator[Record]:
        yield from records(LONG)
        rename("jobs", "hidden")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        submission(stores).run(cut())
    rename("hidden", "jobs")
    assert rows(database)["jobs"] == 1
    # When the next one comes, then what is left of it is gone
    job_id = submission(stores).run(records(1))
    assert rows(database) == {"jobs": 1, "chunks": 1, "inputs": 1}
    assert stores.jobs.get(job_id).total == 1
    database.close()


@pytest.mark.parametrize("before", [0, LONG], ids=["before it is written", "after it was written"])
def test_an_id_that_has_come_before_is_refused(stores: Stores, before: int) -> None:
    serve(stores)
    given = [*records(before), Record("rye", "first"), Record("oats", "second")]
    given.append(Record("rye", given[0].id))
    with pytest.raises(InvalidItems) as caught:
        submission(stores, with_ids=True).run(given)
    problems = [(one.position, one.reason) for one in caught.value.problems]
    assert problems == [(before + 2, "the id has come before")]


def test_ids_that_share_a_hash_are_told_apart(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a hash that is the same for every id
    serve(stores)
    monkeypatch.setattr(judging, "hash_ids", lambda ids: np.full(len(ids), 42, dtype=np.uint64))
    # When different ids come, then all are taken
    job_id = submission(stores, with_ids=True).run([Record("rye", "a"), Record("oats", "b"), Record("rye", "c")])
    assert stores.jobs.get(job_id).total == 3
    # And one that has really come before is refused
    with pytest.raises(InvalidItems) as caught:
        submission(stores, with_ids=True).run([Record("rye", "a"), Record("oats", "b"), Record("rye", "a")])
    assert [one.position for one in caught.value.problems] == [2]


def test_an_empty_prompt_of_the_models_is_kept_as_the_empty_prompt(stores: Stores) -> None:
    # Given a model whose files name no prompts, as a worker of today tells of it
    serve(stores)
    asked = {"model": CARD.name, "revision": None, "options": JobOptions(prompt_name="query"), "idempotency_key": "x"}
    card = replace(CARD, prompts={"query": "", "passage": "passage: "})
    # When a job asks for one of the two that every model has, then a worker that knows only files can do it too
    accepted = Submission(stores, card=card, **asked).run([Record("rye")])  # type: ignore[arg-type]
    kept = stores.jobs.get(accepted).options
    assert (kept["prompt"], kept["prompt_name"]) == ("", None)
    # And it is the same submission, whatever is known of the model
    assert Submission(stores, card=None, **asked).run([Record("rye")]) == accepted  # type: ignore[arg-type]
    # And a prompt that says something is kept by its name
    named = asked | {"options": JobOptions(prompt_name="passage"), "idempotency_key": None}
    accepted = Submission(stores, card=card, **named).run([Record("rye")])  # type: ignore[arg-type]
    assert stores.jobs.get(accepted).options["prompt_name"] == "passage"


def test_a_payload_is_the_same_however_it_comes(stores: Stores) -> None:
    serve(stores)
    texts = [Record(f"grain {number}") for number in range(2_500)]
    accepted = submission(stores, key="monday").run(texts)
    assert submission(stores, key="monday").run(iter(texts)) == accepted
    with pytest.raises(IdempotencyConflict):
        submission(stores, key="monday").run([*texts[:-1], Record("chaff")])
