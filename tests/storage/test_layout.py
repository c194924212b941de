"""PostgreSQL's tables as they are laid out, and what it does with them when there are many rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import event, select, text

from storage import texts as packing
from storage.contract.ids import new_id
from storage.contract.models import Priority
from storage.contract.options import JobOptions
from storage.database import Database, now_ms
from storage.migrations import migrate
from storage.statementtime import statement_ms
from storage.stores import Stores
from tests.faults.forms import FULL
from tests.servers import PostgresServer
from tests.storage.builders import CARD, MODEL, claim, result, serve

#: Jobs, those of them that are still open, and chunks of each; in the full form there are 200,000 chunks.
JOBS, OPEN, CHUNKS = 2_000, 20, 100 if FULL else 10

_FILL = """
INSERT INTO jobs (id, state, model, model_id, priority, options, key_id, total, chunk_count, has_ids, generation,
                  created_at, touched_at, finished_at, kept_until)
SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(j), 12, '0'))::uuid,
       CASE WHEN j > {open} THEN 'completed' ELSE 'running' END, '{model}', '{card}', 0, '{options}', '', {chunks} * 32,
       {chunks}, false, 0, j, j, CASE WHEN j > {open} THEN j END, CASE WHEN j > {open} THEN 4102444800000 END
FROM generate_series(1, {jobs}) AS j;
INSERT INTO chunks (job_id, number, state, first, size, token_estimate, token, claims, crashes, invalid, succeeded,
                    failed, truncated, tokens)
SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(j), 12, '0'))::uuid, n,
       CASE WHEN j > {open} OR n < {chunks} / 2 THEN 'done' ELSE 'pending' END, n * 32, 32, 8000, 1, 1, 0, 0,
       CASE WHEN j > {open} OR n < {chunks} / 2 THEN 32 ELSE 0 END, 0, 0, 8000
FROM generate_series(1, {jobs}) AS j, generate_series(0, {chunks} - 1) AS n;
INSERT INTO inputs (job_id, number, texts) SELECT job_id, number, '\\x{texts}' FROM chunks;
INSERT INTO results (job_id, number, token, width, dtype, vectors, tokens, lengths)
SELECT job_id, number, 1, 2, 'float32', '\\x00', '', '' FROM chunks WHERE state = 'done';
"""

#: Rows of which none is due: deadlines and times to keep in the far future, calls that have ended just now.
_NOT_DUE = """
INSERT INTO jobs (id, state, model, priority, options, key_id, total, chunk_count, has_ids, generation, kind,
                  created_at, touched_at, expires_at, finished_at, kept_until, texts_until)
SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(j), 12, '0'))::uuid,
       CASE WHEN j % 2 = 0 THEN 'queued' ELSE 'completed' END, 'mill', 0, '{}', '', 1, 1, false, 0,
       CASE WHEN j % 4 = 1 THEN 'call' ELSE 'job' END, j, j, 4102444800000 + j,
       CASE WHEN j % 2 = 1 THEN extract(epoch from now()) * 1000 + j END,
       CASE WHEN j % 2 = 1 THEN 4102444800000 + j END, CASE WHEN j % 2 = 1 THEN 4102444800000 + j END
FROM generate_series(1, 8000) AS j;
INSERT INTO webhooks (id, job_id, key_id, url, state, attempts, generation, next_at, created_at)
SELECT gen_random_uuid(), id, '', 'http://mill', 'pending', 0, 0, kept_until, 1 FROM jobs WHERE kept_until IS NOT NULL;
"""

#: The column that each index of times begins with.
_TIMES = {
    "ix_jobs_expires_at": "expires_at",
    "ix_jobs_calls": "finished_at",
    "ix_jobs_kept_until": "kept_until",
    "ix_jobs_texts_until": "texts_until",
    "ix_webhooks_pending": "next_at",
}


@pytest.fixture(scope="module")
def crowded(postgres_server: PostgresServer) -> Iterator[Database]:
    """A migrated PostgreSQL with many chunks."""
    name = postgres_server.create()
    database = Database(postgres_server.url(name))
    migrate(database)
    stores = Stores.on(database)
    serve(stores)
    given = {"jobs": JOBS, "open": OPEN, "chunks": CHUNKS, "model": MODEL, "card": CARD.id, "options": "{}"}
    given["texts"] = packing.pack([b"rye"] * 32).hex()
    with database.write() as connection:
        driver: Any = connection.connection.driver_connection
        for statement in _FILL.format(**given).split(";")[:-1]:
            driver.execute(statement)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")  # as autovacuum does by itself
    yield database
    database.close()
    postgres_server.drop(name)


@contextmanager
def plans(database: Database) -> Iterator[dict[str, str]]:
    """Gather how PostgreSQL does each statement of a block, by the statement."""
    found: dict[str, str] = {}

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.startswith(("SELECT set_config", "EXPLAIN", "INSERT", "SAVEPOINT")) or statement in found:
            return
        if many:
            parameters = parameters[0]
        with connection.connection.driver_connection.cursor() as other:
            rows = other.execute(f"EXPLAIN {statement}", parameters).fetchall()
        found[statement] = "\n".join(row[0] for row in rows)

    event.listen(database.engine, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        event.remove(database.engine, "before_cursor_execute", explain)


def test_no_hot_statement_reads_a_whole_table_however_many_chunks_are_kept(crowded: Database) -> None:
    # Given a store of many chunks, nearly all of which are done
    stores = Stores.on(crowded)
    worker = serve(stores)
    job_id = "00000000-0000-7000-8000-000000000001"
    # When everything is asked of it that is asked again and again
    with plans(crowded) as found:
        stores.chunks.dispatch(CARD.id, Priority.BULK, 4)
        held = claim(stores, job_id, CHUNKS - 1, worker, room=100_000)
        assert len(held) > 1
        stores.leases.inputs(held)
        stores.leases.heartbeat(worker, [one.key for one in held])
        stores.leases.commit([(held[0], result(32))])
        stores.leases.release(held[1:])
        stores.leases.release_expired()
        stores.leases.release_worker(new_id(), died=True)
        stores.chunks.redispatch(600_000)
        stores.chunks.redispatch(3_000, CARD.id)
        stores.chunks.out(CARD.id)
        stores.chunks.open_by_state()
        stores.backlogs.by_queue()
        stores.backlogs.of_model(MODEL)
        stores.workloads.get()
        stores.jobs.expire()
        stores.jobs.finish_all()
        stores.purges.mark(86_400_000)
        stores.purges.marked()
        stores.purges.marked_texts()
        stores.statuses.get(job_id)
        stores.entries.get(job_id)
        stores.jobs.list_ids(20)
        if FULL:  # where there are few, their results are read at a stroke
            stores.invariants.check()
        stores.results.page_at(job_id, 100)
    # Then every one is done by the indexes: what has ended costs nothing
    assert len(found) > 30
    for table in ("chunks", "inputs", "results"):
        slow = {statement: plan for statement, plan in found.items() if f"Seq Scan on {table}" in plan}
        assert not slow, "\n\n".join(f"{statement}\n{plan}" for statement, plan in slow.items())
    # And what is open is found by the indexes of what is open
    told = "\n".join(found.values())
    for index in ("ix_chunks_pending", "ix_chunks_out", "ix_jobs_kept_until", "ix_jobs_texts_until"):
        assert index in told, index


def test_what_is_over_is_found_by_its_time_however_much_is_not(postgres_server: PostgresServer) -> None:
    # Given many jobs with a deadline, ended calls, jobs and texts with a time to be kept, webhooks: none of them due
    name = postgres_server.create()
    with closing(Database(postgres_server.url(name))) as database:
        migrate(database)
        with database.write() as connection:
            driver: Any = connection.connection.driver_connection
            for statement in _NOT_DUE.split(";")[:-1]:
                driver.execute(statement)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
        stores = Stores.on(database)
        # When it is asked what is due
        with plans(database) as found:
            assert stores.jobs.expire() == [] and stores.webhooks.due() == []
            assert stores.purges.mark(60_000) == 0
    postgres_server.drop(name)
    # Then each is looked up in its index from the earliest time to this moment, and nothing else is looked at
    told = "\n".join(found.values())
    for index, column in _TIMES.items():
        assert re.search(rf"{index}.*\n +Index Cond: \({column} <=? ", told), f"{index}\n{told}"


def test_the_time_of_a_statement_is_its_own_in_a_transaction_that_began_before(database: Database) -> None:
    with database.read() as connection:
        before, now = connection.execute(select(statement_ms(), now_ms())).one()
        assert abs(now - before) < 100_000
        while connection.execute(select(now_ms())).scalar_one() <= now + 2:
            pass
        assert connection.execute(select(statement_ms())).scalar_one() > now


def test_an_index_is_made_beside_the_others_whatever_time_the_role_is_given(postgres_server: PostgresServer) -> None:
    # Given a database in use whose sessions may neither take nor wait long, and somebody who writes for a while
    name = postgres_server.create()
    with closing(Database(postgres_server.url(name))) as database:
        migrate(database, "0013")
        with database.write() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute(_NOT_DUE.partition(";")[0])
            for setting in ("statement_timeout", "lock_timeout"):
                driver.execute(f"ALTER DATABASE {name} SET {setting} = '1500ms'")
        database.engine.dispose()
        with ThreadPoolExecutor(1) as threads, database.write() as writing:
            writing.exec_driver_sql("UPDATE jobs SET total = 2 WHERE created_at = 1")
            migrating = threads.submit(migrate, database)
            # When it is migrated meanwhile
            wait([migrating], timeout=5)
            writing.commit()
            migrating.result(60)
        # Then its indexes are whole, and a later session is as limited as before
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            halves = "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid"
            assert connection.exec_driver_sql(halves).scalars().all() == []
            assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "1500ms"
    postgres_server.drop(name)


def test_a_table_that_is_read_whole_would_be_seen(crowded: Database) -> None:
    with plans(crowded) as found, crowded.read() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM chunks WHERE failures > 3")
    assert "Seq Scan on chunks" in "".join(found.values())


def test_blobs_that_cannot_be_made_smaller_are_kept_as_they_are(crowded: Database) -> None:
    # (an e is for external: beside the row, and not compressed)
    query = """
        SELECT c.relname || '.' || a.attname, a.attstorage::text
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relkind = 'r' AND a.attstorage = 'e' ORDER BY 1
    """
    with crowded.read() as connection:
        found = [row[0] for row in connection.execute(text(query))]
    assert found == [
        "batch_lines.data",
        "file_blocks.data",
        "inputs.id_hashes",
        "inputs.texts",
        "results.vectors",
        "tokenizers.definition",
    ]


def test_tables_that_change_often_are_cleaned_often(crowded: Database) -> None:
    query = "SELECT relname, reloptions FROM pg_class WHERE relkind = 'r' AND reloptions IS NOT NULL"
    with crowded.read() as connection:
        found = {row.relname: set(row.reloptions) for row in connection.execute(text(query))}
    assert {"fillfactor=70", "autovacuum_vacuum_scale_factor=0.02"} <= found["chunks"]
    assert {"workers", "leaders", "counters", "quotas", "jobs", "inputs", "results"} <= found.keys()


def test_a_database_in_use_is_migrated_beside_a_transaction_that_works_in_it(postgres_server: PostgresServer) -> None:
    # Given a database of the release before, with jobs in it, of which nothing was said
    name = postgres_server.create()
    database = Database(postgres_server.url(name))
    migrate(database, "0009")
    job = {"id": new_id(), "options": JobOptions().to_dict()}
    with database.write() as connection:
        columns = "id, state, model, priority, options, key_id, total, chunk_count, has_ids, generation"
        connection.execute(
            text(
                f"INSERT INTO jobs ({columns}, created_at, touched_at, finished_at)"
                " VALUES (:id, 'completed', 'mill', 0, '{}', '', 1, 0, false, 0, 1, 1, 1)"
            ),
            {"id": job["id"]},
        )
    # And an index that an earlier attempt has left half made
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN kept_until_before BIGINT")
        connection.exec_driver_sql("CREATE INDEX ix_jobs_kept_until ON jobs (kept_until_before)")
    # When it is migrated
    migrate(database)
    # Then the schema is whole, the index is the right one, and the job stays for ever
    database.check_schema()
    stores = Stores.on(database)
    assert stores.purges.mark(60_000) == 0
    assert stores.statuses.get(job["id"]).keep_days is None
    with database.read() as connection:
        made = connection.execute(text("SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_jobs_kept_until'"))
        assert "(kept_until)" in made.scalar_one()
    database.close()
    postgres_server.drop(name)
