"""Vectors published into a pgvector table: once each, to the bit, and found again by the nearest neighbours."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, event
from typer.testing import CliRunner

from producer.client import Client
from producer.datacli import app
from producer.job import Job
from producer.pgvector import PgvectorTable
from producer.publishing import Published, publish
from storage.contract.errors import InvalidOption, StorageUnavailable, WrongState
from storage.contract.keeping import Keeping
from storage.contract.models import ModelCard
from storage.database import Database
from storage.results import ChunkResult
from tests.servers import PostgresServer
from tests.storage.builders import MODEL, chunk, result, serve, submit

WIDE = ModelCard(MODEL, "5f1c0de", "float32", 32, 128, 2, "mean", True)


@pytest.fixture
def target(postgres_server: PostgresServer) -> Iterator[Database]:
    """An empty PostgreSQL beside the one the jobs are in."""
    name = postgres_server.create()
    database = Database(postgres_server.url(name))
    yield database
    database.close()
    postgres_server.drop(name)


def random_vectors(rows: int, width: int = 32, seed: int = 3) -> NDArray[np.float32]:
    matrix = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def job_of(client: Client, matrix: NDArray[np.float32], ids: bool = False, size: int = 250, **given: object) -> Job:
    """Return an ended job with these vectors; rows of NaN are failed items."""
    stores = client.stores
    worker = serve(stores, WIDE)
    chunks = []
    for number, first in enumerate(range(0, len(matrix), size)):
        rows = range(first, min(first + size, len(matrix)))
        names = [f"id/{row} ☃" for row in rows] if ids else None
        chunks.append(chunk(number, [f"text {row}" for row in rows], first=first, ids=names))
    job_id = submit(stores, chunks, WIDE, **given)  # type: ignore[arg-type]
    for one in chunks:
        part = matrix[one.first : one.first + len(one.texts)]
        failed = np.flatnonzero(np.isnan(part[:, 0])).tolist()
        like = result(len(part), failed=failed)
        (held,) = stores.leases.claim(_pointer(job_id, one.number), worker, WIDE.id, 0)
        stores.leases.commit([(held, ChunkResult(part, "float32", like.tokens, like.lengths, like.errors))])
    return client.job(job_id)


def _pointer(job_id: str, number: int) -> object:
    from storage.contract.messages import Pointer

    return Pointer(job_id, number)


@pytest.fixture
def client(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client(database_url=database_url, redis_url="unix:///nowhere/redis.sock") as client:
        yield client


def fetched(database: Database, sql: str, *given: object) -> list[tuple[object, ...]]:
    url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        return connection.execute(sql, given).fetchall()  # type: ignore[arg-type]


def vectors_in(database: Database, table: str = "grain") -> NDArray[np.float32]:
    found = fetched(database, f"SELECT embedding::real[] FROM {table} ORDER BY position")
    return np.array([row[0] for row in found], dtype=np.float32)


def test_vectors_are_published_to_the_bit_and_twice_is_once(client: Client, target: Database) -> None:
    # Given a job with ids, some of whose items have no vector
    matrix = random_vectors(1_000)
    matrix[[0, 17, 999]] = np.nan
    job = job_of(client, matrix, ids=True)
    table = PgvectorTable(target, "grain", 32, with_text=True)
    # When it is published, and once more
    assert publish(client.stores, job, table, True) == Published(997, 0, 3)
    assert publish(client.stores, job, table, True) == Published(0, 997, 3)
    # Then every vector is there, once, with its id and its text
    has = ~np.isnan(matrix[:, 0])
    assert vectors_in(target).tobytes() == matrix[has].tobytes()
    found = fetched(target, "SELECT job_id::text, position, custom_id, text FROM grain ORDER BY position")
    assert found == [(job.id, row, f"id/{row} ☃", f"text {row}") for row in np.flatnonzero(has).tolist()]


def test_what_a_retry_brings_later_is_added(client: Client, target: Database) -> None:
    matrix = random_vectors(500)
    matrix[3] = np.nan
    job = job_of(client, matrix)
    table = PgvectorTable(target, "grain", 32)
    publish(client.stores, job, table, False)
    assert client.stores.jobs.retry_failed(job.id) == 1
    with pytest.raises(WrongState, match="Wait for it first"):
        publish(client.stores, job, table, False)
    worker = serve(client.stores, WIDE)
    (held,) = client.stores.leases.claim(_pointer(job.id, 0), worker, WIDE.id, 0)  # type: ignore[arg-type]
    whole = random_vectors(500)[:250]
    like = result(250)
    client.stores.leases.commit([(held, ChunkResult(whole, "float32", like.tokens, like.lengths, {}))])
    assert publish(client.stores, job, table, False) == Published(1, 499, 0)
    assert vectors_in(target).tobytes() == random_vectors(500).tobytes()


def test_halves_are_rounded_as_numpy_rounds_them(client: Client, target: Database) -> None:
    matrix = random_vectors(300)
    table = PgvectorTable(target, "grain", 32, "halfvec")
    publish(client.stores, job_of(client, matrix), table, False)
    assert vectors_in(target).tobytes() == matrix.astype(np.float16).astype(np.float32).tobytes()


def test_a_table_that_does_not_fit_is_refused_before_anything_is_written(client: Client, target: Database) -> None:
    job = job_of(client, random_vectors(10))
    publish(client.stores, job, PgvectorTable(target, "grain", 32), False)
    for table, why in (
        (PgvectorTable(target, "grain", 32, "halfvec"), r"embedding of grain is vector\(32\)"),
        (PgvectorTable(target, "grain", 16), r"must be vector\(16\)"),
        (PgvectorTable(target, "grain", 32, with_text=True), "text of grain is missing"),
    ):
        with pytest.raises(InvalidOption, match=why):
            publish(client.stores, job, table, False)
    assert len(vectors_in(target)) == 10


def test_texts_that_are_gone_cannot_be_published_and_vectors_can(client: Client, target: Database) -> None:
    job = job_of(client, random_vectors(10), keeping=Keeping(30, 0))
    client.stores.purges.mark(60_000)
    after: int | None = -1
    while after is not None:
        after = client.stores.purges.step_texts(job.id, after)
    with pytest.raises(WrongState, match="texts of job .* are gone"):  # noqa: RUF043
        publish(client.stores, job, PgvectorTable(target, "grain", 32, with_text=True), True)
    assert publish(client.stores, job, PgvectorTable(target, "meal", 32), False).added == 10


def test_letters_that_postgresql_cannot_keep_are_left_out_and_counted(client: Client, target: Database) -> None:
    # Given a text with a NUL character, which a model reads and PostgreSQL cannot keep
    worker = serve(client.stores, WIDE)
    job_id = submit(client.stores, [chunk(0, ["r\0ye", "oat"])], WIDE)
    (held,) = client.stores.leases.claim(_pointer(job_id, 0), worker, WIDE.id, 0)  # type: ignore[arg-type]
    like = result(2)
    client.stores.leases.commit([(held, ChunkResult(random_vectors(2), "float32", like.tokens, like.lengths, {}))])
    # When the job is published with its texts
    table = PgvectorTable(target, "grain", 32, with_text=True)
    assert publish(client.stores, client.job(job_id), table, True) == Published(2, 0, 0, changed=1)
    # Then all else is there
    assert fetched(target, "SELECT text FROM grain ORDER BY position") == [("rye",), ("oat",)]


def test_a_job_that_never_had_a_model_has_nothing_to_publish(client: Client, target: Database) -> None:
    job_id = submit(client.stores, 1, None)
    client.stores.jobs.cancel(job_id)
    job = client.job(job_id)
    with pytest.raises(WrongState, match="has no vectors"):
        publish(client.stores, job, PgvectorTable(target, "grain", job.width()), False)


@pytest.mark.parametrize("name", ["nowhere.grain", "a.b.c.grain", "mill..grain", "", "gr\0ain"])
def test_a_name_that_is_none_is_refused_in_our_words(client: Client, target: Database, name: str) -> None:
    job = job_of(client, random_vectors(2))
    with pytest.raises(InvalidOption, match="table"):
        publish(client.stores, job, PgvectorTable(target, name, 32), False)


def test_a_table_that_another_one_holds_is_told_as_a_database_that_is_busy(client: Client, target: Database) -> None:
    # Given somebody who is making a table of that name
    job = job_of(client, random_vectors(10))
    table, url = PgvectorTable(target, "grain", 32), target.url.set(drivername="postgresql")

    def hurry(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '50ms'")

    event.listen(target.engine, "begin", hurry)
    with psycopg.connect(url.render_as_string(hide_password=False)) as other:
        other.execute("CREATE TABLE grain (rye int)")
        # When it cannot be waited for any longer, then that is told
        with pytest.raises(StorageUnavailable, match="busy"):
            publish(client.stores, job, table, False)
        other.rollback()
    # And it goes on when it is done again
    assert publish(client.stores, job, table, False).added == 10


def test_each_table_has_indexes_of_its_own_however_long_its_name(client: Client, target: Database) -> None:
    # Given two tables whose names differ only in their last letters
    job = job_of(client, random_vectors(10))
    for name in (f"{'grain' * 11}_oat", f"{'grain' * 11}_rye"):
        table = PgvectorTable(target, name, 32)
        publish(client.stores, job, table, False)
        # When each gets an index for each distance, then each is built, once
        for distance in ("cosine", "l2"):
            assert table.build(table.index(distance), 64)
            assert not table.build(table.index(distance), 64)
    indexed = "SELECT tablename, count(*) FROM pg_indexes WHERE indexdef LIKE '%%hnsw%%' GROUP BY 1 ORDER BY 1"
    assert [row[1] for row in fetched(target, indexed)] == [2, 2]


#: Publishes, and is killed just before its third transaction is committed.
DYING = """
import os, sys
from sqlalchemy import event
from producer.client import Client
from producer.pgvector import PgvectorTable
from producer.publishing import publish
from storage.database import Database
target = Database(sys.argv[2])
commits = 0
def die(connection):
    global commits
    commits += 1
    if commits == 6:
        os._exit(9)
event.listen(target.engine, "commit", die)
client = Client(database_url=sys.argv[1], redis_url="unix:///nowhere/redis.sock")
publish(client.stores, client.job(sys.argv[3]), PgvectorTable(target, "grain", 32), False)
"""


def test_one_that_is_killed_goes_on_when_it_is_started_again(
    client: Client, database_url: str, target: Database
) -> None:
    matrix = random_vectors(9_000)
    job = job_of(client, matrix, size=500)
    url = target.url.set(drivername="postgresql").render_as_string(hide_password=False)
    killed = subprocess.run([sys.executable, "-c", DYING, database_url, url, job.id], timeout=100)
    assert killed.returncode == 9
    there = len(vectors_in(target))
    assert 0 < there < 9_000
    table = PgvectorTable(target, "grain", 32)
    assert publish(client.stores, job, table, False) == Published(9_000 - there, there, 0)
    assert vectors_in(target).tobytes() == matrix.tobytes()


def test_the_nearest_neighbours_are_numpys_and_the_index_finds_them(client: Client, target: Database) -> None:
    # Given published vectors and the index that is advised, whose memory was enough to build it in
    matrix = random_vectors(2_000)
    job = job_of(client, matrix, size=500)
    table = PgvectorTable(target, "grain", 32)
    publish(client.stores, job, table, False)
    questions = random_vectors(20, seed=11)
    exact = np.argsort(-(questions @ matrix.T), axis=1)[:, :10]
    # When the nearest ten are asked for, without it and with it
    before = [nearest(target, question) for question in questions]
    advised = table.index("cosine")
    table.build(advised, advised.memory(table.count()))
    after = [nearest(target, question) for question in questions]
    # Then without it they are NumPy's, and with it nearly all of them
    assert np.array_equal(np.array(before), exact)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(after, exact.tolist(), strict=True)])
    assert recall > 0.9


def nearest(database: Database, question: NDArray[np.float32]) -> list[int]:
    sql = "SELECT position FROM grain ORDER BY embedding <=> %s::real[]::vector LIMIT 10"
    return [int(str(row[0])) for row in fetched(database, sql, question.tolist())]


def test_an_index_is_built_in_no_more_memory_than_is_said_or_usual(
    client: Client, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job, and an index that needs 64 MB where 16 are usual
    monkeypatch.setattr("producer.datacli._USUAL_MEMORY", 16)
    job = job_of(client, random_vectors(10))
    asked: list[str] = []
    place = [job.id, "--index", "--database-url", str(client.settings.database_url)]
    place += ["--into", target.url.render_as_string(hide_password=False)]

    def look(connection: object, cursor: object, statement: str, *_: object) -> None:
        asked.extend(re.findall(r"'maintenance_work_mem', '(\w+)'", statement))

    event.listen(Engine, "before_cursor_execute", look)
    try:
        for table, more in (("usual", []), ("said", ["--index-memory", "32"]), ("enough", ["--index-memory", "64"])):
            # When it is published with the index
            told = CliRunner().invoke(app, ["publish", *place, "--to-pgvector", table, *more])
            # Then what it needs is printed, and more than that is not taken
            assert told.exit_code == 0, told.output
            assert told.stdout.startswith("SET maintenance_work_mem = '64MB';\nCREATE INDEX CONCURRENTLY")
            assert "The index is built." in told.stderr
            assert ("needs 64" in told.stderr) is (table != "enough")
    finally:
        event.remove(Engine, "before_cursor_execute", look)
    assert asked == ["16MB", "32MB", "64MB"]
