"""What comes in of a job is counted as it comes: the n-th piece of a submission reads no more than the first."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, func, select, update

from storage.contract.errors import QuotaExceeded
from storage.database import Database
from storage.parts import Part
from storage.stores import Stores
from storage.tables import ChunkRow, JobRow
from tests.storage.builders import accept, chunk, new_job, serve
from tests.storage.large import job_row
from tests.storage.test_quotas import freeze, limited, owed, quick, refused


def work_of(database: Database, do: Callable[[], object]) -> int:
    """Return how many chunks the queries of a call read on PostgreSQL, how many instructions they are on SQLite."""
    found: list[int] = []

    def look(connection: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if not statement.startswith("SELECT") or "set_config" in statement:
            return
        driver = connection.connection.driver_connection
        if database.is_sqlite:
            driver.set_progress_handler(lambda: found.append(1), 1)
            driver.execute(statement, values).fetchall()
            driver.set_progress_handler(None, 0)
            return
        told = driver.cursor(row_factory=None).execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values).fetchone()
        plan = told[0] if isinstance(told[0], list) else json.loads(told[0])
        found.append(read_by(plan[0]["Plan"]))

    event.listen(database.engine, "before_cursor_execute", look)
    try:
        do()
    finally:
        event.remove(database.engine, "before_cursor_execute", look)
    return sum(found)


def read_by(node: dict[str, Any]) -> int:
    """Return how many chunks a plan's scans read."""
    of_chunks = "chunks" in f"{node.get('Relation Name')} {node.get('Index Name')}"
    rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    own = int(rows * node["Actual Loops"]) if of_chunks else 0
    return own + sum(read_by(child) for child in node.get("Plans", ()))


def is_counted_right(database: Database, job_id: str) -> bool:
    """Whether a job's counts are those of its chunks."""
    sums = select(func.coalesce(func.sum(ChunkRow.size), 0), func.coalesce(func.sum(ChunkRow.token_estimate), 0))
    with database.read() as connection:
        stands = sums.where(ChunkRow.job_id == job_id, ChunkRow.state != "split")
        wanted = tuple(int(found) for found in connection.execute(stands).one())
    row = job_row(database, job_id)
    return (row.arrived, row.estimated) == wanted


def test_what_an_append_reads_does_not_grow_with_what_came_before(stores: Stores, database: Database) -> None:
    # Given two submissions of a key with a limit of texts
    serve(stores)
    key = limited(stores, texts=10**6, tokens_per_minute=10**9)
    jobs = [accept(stores, [chunk(0)], owner=key) for _ in range(2)]
    stores.chunks.append(jobs[1], [chunk(1)])
    before = work_of(database, lambda: stores.chunks.append(jobs[1], [chunk(2)]))
    # When a lot has come in of both
    for job_id in jobs:
        stores.chunks.append(job_id, [chunk(number) for number in range(3, 600)])
    # Then what comes next costs as much as it did before
    assert work_of(database, lambda: stores.chunks.append(jobs[1], [chunk(600)])) == before
    # And so does the seal
    few, many = accept(stores, [chunk(0)], owner=key), jobs[1]
    cost = work_of(database, lambda: stores.jobs.seal(few, 2, 1))
    assert work_of(database, lambda: stores.jobs.seal(many, 2 * 601, 601)) <= cost


def test_what_is_written_of_a_part_is_counted_and_taken_off_with_what_is_cut(
    stores: Stores, database: Database
) -> None:
    # Given a key for ten texts, and a job that comes in parts of two texts a chunk
    serve(stores)
    key = limited(stores, texts=10)
    job = new_job(key_id=key)
    assert stores.parts.open(job, "refuse")
    taking = stores.parts.begin(job.id)
    stores.parts.append(taking, [chunk(0), chunk(1)])
    stores.parts.finish(taking, [chunk(2)], Part(0, 0, 6, 3, "sum"), has_ids=False)
    assert is_counted_right(database, job.id) and job_row(database, job.id).arrived == 6
    # When another part is cut by its writer, then it counts no more
    taking = stores.parts.begin(job.id)
    stores.parts.append(taking, [chunk(3), chunk(4)])
    assert is_counted_right(database, job.id)
    with pytest.raises(QuotaExceeded):
        stores.parts.append(taking, [chunk(5)])
    stores.parts.drop(taking)
    assert is_counted_right(database, job.id) and job_row(database, job.id).arrived == 6
    # When one is left behind by a process that was killed, then it counts until the next one begins
    stores.parts.append(stores.parts.begin(job.id), [chunk(3), chunk(4)])
    refused(lambda: quick(stores, key))
    stores.parts.begin(job.id)
    assert is_counted_right(database, job.id) and job_row(database, job.id).arrived == 6
    quick(stores, key)
    # And the whole of it is sealed
    assert stores.parts.seal(job.id)
    assert job_row(database, job.id).arrived == job_row(database, job.id).total == 6


def test_a_submission_of_the_schema_before_is_added_up(stores: Stores, database: Database) -> None:
    # Given a job that a program of the version before has begun, and one of which it has taken in a piece
    serve(stores)
    key = limited(stores, texts=10, tokens_per_minute=10**9)
    freeze(database, key)
    jobs = [accept(stores, [chunk(0)], owner=key), accept(stores, [chunk(0), chunk(1)], owner=key)]
    for job_id, counts in zip(jobs, (None, 2), strict=True):
        with database.write() as connection:
            values = {"arrived": counts, "estimated": counts and 20}
            connection.execute(update(JobRow).where(JobRow.id == job_id).values(values))
    # Then the limit of texts goes by what is there of the first, and counts go on being none
    stores.chunks.append(jobs[0], [chunk(1), chunk(2)])
    assert job_row(database, jobs[0]).arrived is None
    refused(lambda: stores.chunks.append(jobs[0], [chunk(3), chunk(4)]))
    # And both are charged for all that they hold
    assert stores.jobs.seal(jobs[0], 6, 3) and owed(database, key) == 60
    assert stores.jobs.seal(jobs[1], 4, 2) and owed(database, key) == 100
