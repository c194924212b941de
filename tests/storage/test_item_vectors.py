"""PostgreSQL: vectors read by plain SQL are those that were committed, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import text

from storage import vectors
from storage.contract.ids import new_id
from storage.database import Database
from storage.stores import Stores
from tests.servers import PostgresServer
from tests.storage.builders import accept, chunk, claim, result, serve, submit


@pytest.fixture
def postgres(postgres_server: PostgresServer, migrated_postgres: str) -> Iterator[Database]:
    """A migrated PostgreSQL without a row in it."""
    postgres_server.empty(migrated_postgres)
    database = Database(postgres_server.url(migrated_postgres))
    yield database
    database.close()


def rows(database: Database, where: str = "true", **given: object) -> list[tuple[object, ...]]:
    query = f"SELECT job_id, position, custom_id, vector FROM item_vectors WHERE {where} ORDER BY job_id, position"
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(text(query), given)]


def decoded(database: Database, matrix: NDArray[np.floating], dtype: str) -> list[list[float] | None]:
    query = text("SELECT embedmill_floats(:row, :dtype, embedmill_powers())")
    with database.read() as connection:
        given = [{"row": vectors.to_bytes(row[None], dtype), "dtype": dtype} for row in matrix]
        return [connection.execute(query, one).scalar() for one in given]


def test_every_float16_and_a_crowd_of_float32_are_decoded_to_the_bit(postgres: Database) -> None:
    # Given every number that float16 has, and of float32 the edges of every exponent and some thousands between
    halves = np.arange(1 << 16, dtype="<u2").view("<f2")
    exponents = np.arange(512, dtype=np.uint32) << 23
    edges = (exponents[:, None] + np.array([0, 1, 0x400000, 0x7FFFFF], dtype=np.uint32)).ravel()
    chance = np.random.default_rng(7).integers(0, 1 << 32, 4_000, dtype=np.uint32)
    words = np.concatenate([edges, chance]).astype("<u4").view("<f4")
    for numbers, dtype in ((halves, "float16"), (words, "float32")):
        finite = numbers[np.isfinite(numbers)]
        matrix = np.resize(finite, (-(-len(finite) // 128), 128))
        # When PostgreSQL decodes them
        found = np.array(decoded(postgres, matrix, dtype), dtype=np.float32)
        # Then they are the same, subnormals and both zeros too
        assert found.tobytes() == matrix.astype(np.float32).tobytes(), dtype


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_view_shows_each_item_in_its_place_with_its_id_and_no_vector_where_there_is_none(
    postgres: Database, dtype: str
) -> None:
    # Given a job with ids whose second chunk has one failed item, and whose third is not done
    stores = Stores.on(postgres)
    worker = serve(stores)
    ids = [["oat", 'a "quoted" \\ one'], ["naïve ☃ 𝄞", "b"], ["c", "d"]]
    job_id = submit(stores, [chunk(n, ids=some) for n, some in enumerate(ids)])
    for number, failed in ((0, []), (1, [0])):
        (held,) = claim(stores, job_id, number, worker)
        stores.leases.commit([(held, result(dtype=dtype, failed=failed, value=0.25 + number))])
    # When it is read by plain SQL
    found = rows(postgres, "job_id = :job", job=job_id)
    # Then there is a row an item, in the words of its submitter
    assert [(row[1], row[2]) for row in found] == [(n, name) for n, name in enumerate(ids[0] + ids[1] + ids[2])]
    assert [row[3] for row in found] == [[0.25] * 4, [1.25] * 4, None, [2.25] * 4, None, None]
    # And one item is found by itself
    assert rows(postgres, "job_id = :job AND custom_id = 'b'", job=job_id) == [(found[0][0], 3, "b", [2.25] * 4)]


def test_the_view_has_no_row_of_a_job_that_is_not_accepted_or_is_gone(postgres: Database) -> None:
    stores = Stores.on(postgres)
    serve(stores)
    accept(stores, 2)
    kept, gone = submit(stores), submit(stores)
    stores.jobs.cancel(gone)
    stores.purges.delete(gone)
    assert [(str(row[0]), *row[1:]) for row in rows(postgres)] == [(kept, 0, None, None), (kept, 1, None, None)]
    assert rows(postgres, "job_id = :job", job=new_id()) == []


def test_items_of_a_chunk_that_was_split_are_there_once(postgres: Database) -> None:
    # Given a chunk that killed two processes, and was cut in half
    stores = Stores.on(postgres)
    serve(stores)
    job_id = submit(stores, [chunk(0, ("oat", "rye", "bran", "chaff"), ids=["1", "2", "3", "4"])])
    for _ in range(2):
        worker = serve(stores)
        assert claim(stores, job_id, 0, worker)
        stores.leases.release_worker(worker, died=True)
    # When its halves are done
    worker = serve(stores)
    for number in (1, 2):
        (held,) = claim(stores, job_id, number, worker)
        stores.leases.commit([(held, result(value=float(number)))])
    # Then each item is there once, in its place
    assert [row[1:3] for row in rows(postgres)] == [(0, "1"), (1, "2"), (2, "3"), (3, "4")]
    assert [row[3] for row in rows(postgres)] == [[1.0] * 4, [2.0] * 4, [2.0] * 4, [3.0] * 4]
