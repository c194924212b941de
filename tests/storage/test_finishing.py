"""Whether a job has anything left to send costs the same, whatever lies dead in the index."""

from __future__ import annotations

import re
from contextlib import closing

import pytest
from sqlalchemy import select, text, update

from storage.database import Database
from storage.finishing import _ENDING, has_open_chunks
from storage.migrations import migrate
from storage.stores import Stores
from storage.tables import ChunkRow, JobRow
from tests.storage.builders import chunk, serve, submit
from tests.storage.test_indexes import plan

CHUNKS = 20_000


def test_the_last_pending_chunk_is_looked_for_from_the_end_of_its_index(database: Database, stores: Stores) -> None:
    serve(stores)
    job_id = submit(stores, 200)
    if not database.is_sqlite:
        with database.write() as connection:
            connection.execute(text("ANALYZE"))
    told = plan(database, _ENDING, jobs=[job_id])
    if database.is_sqlite:
        assert "ix_chunks_pending (job_id=?)" in told and "TEMP B-TREE" not in told
    else:
        assert "Index Only Scan Backward using" in told or "Index Scan Backward using" in told


@pytest.mark.parametrize("left", [[], [0], [7], [199], [0, 199]])
def test_whichever_chunk_is_left_the_job_is_not_at_its_end(database: Database, stores: Stores, left: list[int]) -> None:
    # Given a job of which some chunks are left, such as those that are tried again
    serve(stores)
    job_id = submit(stores, 200)
    with database.write() as connection:
        done = update(ChunkRow).where(ChunkRow.number.not_in(left)).values(state="done", succeeded=2)
        connection.execute(done)
    # Then it has open chunks as long as there is one
    with database.write() as connection:
        assert list(connection.execute(_ENDING, {"jobs": [job_id]}).scalars()) == ([] if left else [job_id])
        of_it = select(JobRow.id).where(JobRow.id == job_id, has_open_chunks())
        assert list(connection.execute(of_it).scalars()) == ([job_id] if left else [])


def test_dead_entries_behind_a_long_snapshot_are_not_passed_at_each_commit(postgres_url: str) -> None:
    # Given a job of many chunks, a transaction that has been open since they were written, and all but the last done
    with closing(Database(postgres_url)) as database:
        migrate(database)
        stores = Stores.on(database)
        serve(stores)
        job_id = submit(stores, [chunk(number, ("rye",)) for number in range(CHUNKS)])
        with database.read(one_moment=True) as long:
            long.execute(text("SELECT count(*) FROM chunks"))
            with database.write() as connection:
                done = update(ChunkRow).where(ChunkRow.job_id == job_id, ChunkRow.number < CHUNKS - 1)
                connection.execute(done.values(state="done", succeeded=1))
            with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM ANALYZE chunks")
            # When it is asked whether it is at its end, as each commit does
            asked = _ENDING.params(jobs=[job_id]).compile(database.engine).construct_expanded_state()
            with database.read() as connection:
                explain = f"EXPLAIN (ANALYZE, BUFFERS) {asked.statement}"
                told = "\n".join(str(row[0]) for row in connection.exec_driver_sql(explain, asked.parameters))
    # Then a few pages are read, not those of all that was ever pending
    (pages,) = re.findall(r"Buffers: shared (.*)", told)[:1]
    assert sum(int(number) for number in re.findall(r"(?:hit|read)=(\d+)", pages)) < 40
