"""The queries that run all the time are answered from indexes, however many old jobs are kept."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, insert, select, text, update

from storage import naming, settling
from storage.choice import pending, pending_chunks
from storage.contract.ids import new_id
from storage.contract.models import Priority
from storage.contract.options import JobOptions
from storage.contract.states import JobState
from storage.database import Database
from storage.files import made_id
from storage.filetables import BatchRow
from storage.finishing import has_open_chunks
from storage.jobfilter import JobFilter
from storage.pagequeries import HAS_FAILED
from storage.quotas import SEALED_TEXTS
from storage.stores import Stores
from storage.tables import (
    CHUNK_IS_DISPATCHED,
    CHUNK_IS_LEASED,
    CHUNK_IS_PENDING,
    JOB_IS_UNFINISHED,
    ChunkRow,
    JobRow,
)
from tests.storage.builders import CARD, MODEL, chunk, serve, submit


@pytest.fixture
def crowded(stores: Stores, database: Database) -> Database:
    """A database with a thousand chunks that are done, in jobs that have ended and in one that has not."""
    serve(stores)
    ended = [new_id() for _ in range(500)]
    job = {"state": "completed", "model": MODEL, "model_id": CARD.id, "priority": 0, "options": JobOptions().to_dict()}
    open_job = submit(stores, [chunk(1000 + number, ("rye",)) for number in range(5)])
    spent = {"state": "done", "first": 0, "size": 1, "token_estimate": 1}
    done = [{"job_id": job_id, "number": 0} for job_id in ended]
    done += [{"job_id": open_job, "number": number} for number in range(500)]
    with database.write() as connection:
        connection.execute(insert(JobRow), [{**job, "created_at": 1, "touched_at": 1, "id": one} for one in ended])
        connection.execute(insert(ChunkRow), [{**spent, **one} for one in done])
    if not database.is_sqlite:  # PostgreSQL's autovacuum does it by itself
        with database.write() as connection:
            connection.execute(text("ANALYZE"))
    return database


def plan(database: Database, query: Any, **given: Any) -> str:
    """Return how the database would answer a query that is run with these values."""
    compiled = query.params(**given).compile(database.engine).construct_expanded_state()
    values = compiled.positional_parameters if compiled.positiontup else compiled.parameters
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    with database.read() as connection:
        return "\n".join(str(row[-1]) for row in connection.exec_driver_sql(f"{explain} {compiled.statement}", values))


def plans(database: Database, work: Callable[[], object]) -> str:
    """Return how the database answers whatever it is asked while something is done."""
    return "\n".join(every_plan(database, work, "SELECT"))


def every_plan(database: Database, work: Callable[[], object], *beginnings: str) -> list[str]:
    """Return the same of each statement that begins so."""
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    found: list[str] = []

    def look(connection: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.startswith(beginnings) and "set_config" not in statement:
            beside = connection.connection.driver_connection.cursor()
            beside.execute(f"{explain} {statement}", values)
            found.append("\n".join(str(row[-1]) for row in beside.fetchall()))

    event.listen(database.engine, "before_cursor_execute", look)
    try:
        work()
    finally:
        event.remove(database.engine, "before_cursor_execute", look)
    assert found
    return found


def test_what_to_do_next_is_read_from_the_indexes_of_open_jobs_and_pending_chunks(crowded: Database) -> None:
    told = plan(crowded, pending_chunks().limit(4), **pending(CARD.id, Priority.BULK, ""))
    if not crowded.is_sqlite:
        # It weighs several good indexes by what it knows of so few rows; a test of the layout shows many.
        assert "Seq Scan" not in told
        return
    # SQLite reads jobs and chunks in order: it does not sort all that are pending to find the first four
    assert "ix_jobs_open" in told and "ix_chunks_pending" in told and "TEMP B-TREE" not in told


@pytest.mark.parametrize("condition", [CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED], ids=["dispatched", "leased"])
def test_messages_and_leases_that_are_out_are_read_from_their_index(crowded: Database, condition: Any) -> None:
    assert "ix_chunks_out" in plan(crowded, select(ChunkRow.number).where(condition))


def test_a_jobs_open_chunks_are_looked_for_among_its_own(crowded: Database) -> None:
    told = plan(crowded, select(ChunkRow.number).where(ChunkRow.job_id == new_id(), CHUNK_IS_PENDING).limit(1))
    # PostgreSQL weighs several good indexes by what it knows of the rows; SQLite must take the one of open chunks.
    assert "ix_chunks_pending" in told if crowded.is_sqlite else "Seq Scan" not in told


def test_whether_a_job_has_open_chunks_is_read_from_the_indexes_of_open_ones(crowded: Database) -> None:
    told = plan(crowded, select(JobRow.id).where(JobRow.id == new_id(), has_open_chunks()))
    if crowded.is_sqlite:
        assert "ix_chunks_pending" in told and "ix_chunks_out" in told
        assert "ix_chunks_first" not in told
    assert "Seq Scan" not in told


def test_chunks_that_are_marked_as_sent_are_found_by_their_keys(crowded: Database) -> None:
    keys = [(new_id(), number) for number in range(4)]
    told = plan(crowded, select(ChunkRow).where(naming.named(ChunkRow), CHUNK_IS_PENDING), **naming.chunks(keys))
    assert "SCAN chunks" not in told and "Seq Scan on chunks" not in told


def test_jobs_that_go_or_wait_for_a_model_are_found_without_reading_those_that_are_kept(crowded: Database) -> None:
    for query in (
        select(JobRow.id).where(JobRow.deleted_at.is_not(None)).order_by(JobRow.deleted_at).limit(5),
        select(JobRow.id).where(JOB_IS_UNFINISHED, JobRow.model == MODEL),
        select(JobRow.id).where(JobRow.finished_at.is_not(None), JobRow.finished_at < 5).limit(5),
    ):
        told = plan(crowded, query)
        assert "SCAN jobs" not in told and "Seq Scan on jobs" not in told


def test_what_a_key_keeps_is_counted_from_the_index_of_owned_jobs_alone(crowded: Database) -> None:
    told = plan(crowded, SEALED_TEXTS, key="mfrggzdfmztwq2lk")
    if crowded.is_sqlite:
        assert "COVERING INDEX ix_jobs_owned" in told
    assert "Seq Scan" not in told


def test_texts_that_stay_for_a_while_yet_are_not_looked_through_for_those_that_go(
    crowded: Database, stores: Stores
) -> None:
    # Given many jobs whose texts go one day
    with crowded.write() as connection:
        connection.execute(update(JobRow).values(texts_until=4_102_444_800_000))
    # When those are sought whose texts go now, which is done every second
    told = plans(crowded, stores.purges.marked_texts)
    # Then the index ends at this moment
    assert "texts_until<?" in told if crowded.is_sqlite else "texts_until <=" in told
    assert "SCAN jobs" not in told


def test_submissions_that_were_given_up_are_found_among_those_that_have_not_ended(
    crowded: Database, stores: Stores
) -> None:
    told = plans(crowded, lambda: stores.purges.mark(0))
    if crowded.is_sqlite:
        assert "ix_jobs_unfinished" in told
        told = told.replace("SCAN jobs USING INDEX ix_jobs_unfinished", "")
    assert "SCAN jobs" not in told and "Seq Scan on jobs" not in told


def test_messages_that_one_model_misses_are_found_without_reading_all_that_it_ever_did(
    crowded: Database, stores: Stores
) -> None:
    told = plans(crowded, lambda: stores.chunks.redispatch(0, CARD.id))
    assert "SCAN jobs" not in told and "Seq Scan on jobs" not in told


def test_what_waits_and_who_works_is_added_up_without_reading_all_chunks(crowded: Database, stores: Stores) -> None:
    told = plans(crowded, stores.workloads.get)
    assert "SCAN jobs\n" not in told and "SCAN chunks\n" not in told and "Seq Scan on jobs" not in told


def test_batches_to_work_at_are_found_without_reading_those_that_have_ended(crowded: Database, stores: Stores) -> None:
    # Given many batches at their end
    batch = {"endpoint": "/v1/embeddings", "completion_window": "24h", "created_at": 1, "expires_at": 1}
    batch |= {"state": "completed", "input_file_id": "file-1"}
    rows = [batch | {"id": made_id("batch_", crowded.clock)} for _ in range(2_000)]
    with crowded.write() as connection:
        connection.execute(insert(BatchRow), rows)
    if not crowded.is_sqlite:
        with crowded.write() as connection:
            connection.execute(text("ANALYZE batches"))
    # When what is to be done is sought, which every process of a service does twice a second
    told = plans(crowded, lambda: (list(stores.batches.unfinished()), stores.batches.ended()))
    # Then they are not looked through
    assert "ix_batches_unfinished" in told
    assert "SCAN batches\n" not in f"{told}\n" and "Seq Scan on batches" not in told


def test_jobs_that_have_not_ended_are_listed_without_reading_those_that_have(crowded: Database, stores: Stores) -> None:
    for model in (None, MODEL):
        unfinished = JobFilter(states=[JobState.QUEUED, JobState.RUNNING], model=model)
        told = plans(crowded, lambda: stores.jobs.list_ids(20, wanted=unfinished))  # noqa: B023 - run here
        assert "ix_jobs_unfinished" in told or "ix_jobs_open" in told


def test_the_jobs_of_one_key_are_listed_without_reading_those_of_others(crowded: Database, stores: Stores) -> None:
    # Given a key with many jobs, older than many more of others
    with crowded.write() as connection:
        first = select(JobRow.id).order_by(JobRow.id).limit(100)
        connection.execute(update(JobRow).where(JobRow.id.in_(first)).values(key_id="rye"))
        connection.execute(text("ANALYZE"))
    told = plans(crowded, lambda: stores.jobs.list_ids(20, key_id="rye"))
    assert "ix_jobs_listed" in told and "TEMP B-TREE" not in told


def test_calls_that_nobody_fetched_are_found_without_reading_ended_jobs(crowded: Database, stores: Stores) -> None:
    with crowded.write() as connection:
        connection.execute(update(JobRow).where(JobRow.state == "completed").values(finished_at=1))
    told = plans(crowded, lambda: stores.purges.mark(0))
    assert "ix_jobs_calls" in told and "ix_jobs_finished_at" not in told


def test_chunks_that_a_step_settles_or_sends_again_are_found_among_their_own(
    crowded: Database, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job of which a thousand chunks are pending, behind five hundred that are done, and one that failed
    with crowded.read() as connection:
        job_id = connection.execute(select(JobRow.id).where(JobRow.state == "queued")).scalar_one()
    more = {"job_id": job_id, "state": "pending", "first": 0, "size": 1, "token_estimate": 1}
    with crowded.write() as connection:
        connection.execute(insert(ChunkRow), [more | {"number": number} for number in range(2000, 3000)])
        connection.execute(text("UPDATE chunks SET failed = 1 WHERE number = 3"))
        if not crowded.is_sqlite:
            connection.execute(text("ANALYZE"))
    # When its failed items are looked for, and sent again
    told = plans(crowded, lambda: stores.retries._count(job_id))
    told += plan(crowded, HAS_FAILED, job=job_id, position=0)
    # Then the done ones are not walked
    if crowded.is_sqlite:
        assert "ix_chunks_failed" in told
    assert "SCAN chunks" not in told and "Seq Scan on chunks" not in told
    # When a step of it is settled, then its pending ones, and what is out of it, are found by their indexes
    monkeypatch.setattr(settling, "STEP", 100)
    monkeypatch.setattr(settling, "AT_ONCE", 0.0)
    first, *_, out = told = every_plan(crowded, lambda: stores.jobs.cancel(job_id), "UPDATE chunks", "SELECT chunks")
    if crowded.is_sqlite:
        assert "ix_chunks_pending" in first and "ix_chunks_out" in out
        assert all("SEARCH chunks" in one and "job_id=?" in one for one in told)
    assert "Seq Scan on chunks" not in "\n".join(told)
    # And so are the last ones, which on PostgreSQL are most of so few
    monkeypatch.setattr(settling, "STEP", 2_000)
    *_, last = every_plan(crowded, lambda: stores.settling.step(job_id), "UPDATE chunks", "SELECT chunks")
    assert not crowded.is_sqlite or ("ix_chunks_pending" in last and "ix_chunks_out" in last)
    # And jobs under way by theirs
    told = plans(crowded, stores.settling.unsettled) + plans(crowded, stores.retries.unretried)
    if crowded.is_sqlite:
        assert "ix_jobs_unsettled" in told and "ix_jobs_unretried" in told
    assert "SCAN jobs\n" not in f"{told}\n" and "Seq Scan on jobs" not in told
