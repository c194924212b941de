"""What is kept, measured: a move from SQLite to PostgreSQL, its bytes compared; sizes; vectors by plain SQL; pgvector.

Every figure is of this machine, as it was at work with other things too.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, text

from benchmarks.databases import own_database
from benchmarks.machine import describe
from benchmarks.results import Kept, console
from benchmarks.words import read_words
from embedmill import Client
from producer.pgvector import PgvectorTable
from producer.publishing import publish
from storage import texts as packing
from storage.backups import compact
from storage.chunks import NewChunk
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.contract.models import ModelCard
from storage.contract.options import JobOptions
from storage.database import Database
from storage.exporting import Exporter
from storage.importing import Importer
from storage.newjobs import NewJob
from storage.outcomes import ItemError
from storage.purges import START
from storage.results import ChunkResult
from storage.stores import Stores
from storage.tables import Row

#: Texts of a chunk: of about 50 tokens each.
_CHUNK = 160

#: Widths and types whose sizes are measured.
_SIZES = [(width, dtype) for width in (384, 768, 1024) for dtype in ("float32", "float16")]

#: `hnsw.ef_search` as it is by default, and a larger one.
_DEFAULT, _MORE = 40, 100

_WORDS = sorted({word for sentence in read_words().spaced for word in sentence})


def made_texts(items: int, seed: int) -> list[str]:
    """Return texts of 40 words of the examples, about 250 characters."""
    chosen = np.random.default_rng(seed).integers(0, len(_WORDS), (items, 40))
    return [" ".join(_WORDS[word] for word in row) for row in chosen.tolist()]


def made_vectors(items: int, width: int, seed: int) -> NDArray[np.float32]:
    """Return vectors of length 1 in a hundred clusters, as those of texts lie."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((100, width)).astype(np.float32)
    matrix = centres[rng.integers(0, 100, items)] + rng.standard_normal((items, width)).astype(np.float32)
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def fill(stores: Stores, items: int, width: int, dtype: str = "float32", jobs: int = 1) -> list[str]:
    """Make ended jobs with ids, texts and vectors, one item in a thousand failed; return their ids."""
    card = ModelCard(f"mill/{width}", "5f1c0de", "float32", width, 512, 6, "mean", True)
    worker = new_id()
    stores.workers.register(card, worker, host="here", pid=1, device="cpu")
    made = []
    for number in range(jobs):
        job_id, of_job = new_id(), items // jobs
        asked = JobOptions(store_dtype=dtype).to_dict()
        stores.jobs.create(NewJob(job_id, card.name, None, card.id, asked, has_ids=True))
        starts = range(0, of_job, _CHUNK)
        for chunk, first in enumerate(starts):
            size = min(_CHUNK, of_job - first)
            ids = [f"{number}/{first + place}" for place in range(size)]
            words = [one.encode() for one in made_texts(size, number * 10_000 + chunk)]
            new = NewChunk(chunk, first, words, 50 * size, ids, {}, packing.hash_ids(ids))
            stores.chunks.append(job_id, [new])
        stores.jobs.seal(job_id, of_job, len(starts))
        for chunk, first in enumerate(starts):
            size = min(_CHUNK, of_job - first)
            (held,) = stores.leases.claim(Pointer(job_id, chunk), worker, card.id, 0)
            matrix = made_vectors(size, width, number * 10_000 + chunk)
            failed = [place for place in range(size) if (first + place) % 1000 == 999]
            matrix[failed] = np.nan
            tokens = np.full(size, 50, np.int32)
            errors = {place: ItemError("encoder_failed", "No vector.") for place in failed}
            stores.leases.commit([(held, ChunkResult(matrix, dtype, tokens, tokens, errors))])
        made.append(job_id)
    return made


def measure_move(items: int) -> dict[str, Any]:
    """Move everything from SQLite to PostgreSQL and compare all rows of both, to the byte."""
    with own_database("sqlite") as here, own_database("postgresql") as there:
        source, target = Database(here.url), Database(there.url)
        fill(Stores.on(source), items, 384, jobs=10)
        began = time.monotonic()
        done = Importer(target).take(Exporter(source).everything())
        took = time.monotonic() - began
        again = Importer(target).take(Exporter(source).everything())
        tables = ("models", "jobs", "chunks", "inputs", "results")
        rows = {name: _same(source, target, name) for name in tables}
        source.close()
        target.close()
    assert done.items == items and again.jobs == 0
    return {"texts": items, "seconds": took, "texts_per_second": items / took, "rows_equal": rows}


def _same(source: Database, target: Database, name: str) -> int:
    """Compare all rows of a table of both databases; return how many there are."""
    count = 0
    for one, other in itertools.zip_longest(_rows(source, name), _rows(target, name)):
        if one != other:
            raise SystemExit(f"{name}: row {count} differs")
        count += 1
    return count


def _rows(database: Database, name: str) -> Iterator[tuple[Any, ...]]:
    table = Row.metadata.tables[name]
    with database.read() as connection:
        query = select(table).order_by(*table.primary_key.columns)
        for row in connection.execution_options(yield_per=50).execute(query):
            yield tuple(row)


def measure_sizes(items: int) -> list[dict[str, Any]]:
    """Return the GB that a million vectors take in each database, with texts and ids, and when the texts have gone."""
    found = []
    length = sum(len(one) for one in made_texts(10_000, 0)) / 10_000
    for (width, dtype), kind in itertools.product(_SIZES, ("sqlite", "postgresql")):
        with own_database(kind) as own:
            database = Database(own.url)
            stores = Stores.on(database)
            empty = _size(database)
            fill(stores, items, width, dtype)
            whole = _size(database) - empty
            _drop_texts(stores)
            without = _size(database) - empty
            database.close()
        each = {"width": width, "dtype": dtype, "database": kind, "bytes_a_text": length}
        found.append(each | {"gb": whole / items / 1000, "without_texts_gb": without / items / 1000})
    return found


def _size(database: Database) -> int:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if database.is_sqlite:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            return Path(database.url.database or "").stat().st_size
        connection.exec_driver_sql("VACUUM")
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def _drop_texts(stores: Stores) -> None:
    """Let the time of all texts be over, remove them, and give what they took back to the disk."""
    with stores.database.write() as connection:
        connection.execute(text("UPDATE jobs SET texts_until = 1"))
    stores.purges.mark(86_400_000)
    for job_id in stores.purges.marked_texts():
        after: int | None = START
        while after is not None:
            after = stores.purges.step_texts(job_id, after)
    if stores.database.is_sqlite:
        compact(stores.database)
        return
    with stores.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM FULL inputs")


def measure_sql_and_pgvector(items: int) -> dict[str, Any]:
    """Read vectors by plain SQL, publish them, build the index, and compare the nearest ten with NumPy's."""
    with own_database("postgresql") as own, Client(database_url=own.url, redis_url="unix:///nowhere.sock") as client:
        (job_id,) = fill(client.stores, items, 384)
        job = client.job(job_id)
        matrix = job.vectors()
        some = min(items, 4_800)
        began = time.monotonic()
        query = text("SELECT position, vector FROM item_vectors WHERE job_id = :job AND position < :some")
        with client.stores.database.read() as connection:
            rows = connection.execute(query, {"job": job_id, "some": some}).all()
        by_sql = len(rows) / (time.monotonic() - began)
        has = ~np.isnan(matrix[:, 0])
        for row in rows:
            assert (row.vector is None) == (not has[row.position])
            assert row.vector is None or np.float32(row.vector).tobytes() == matrix[row.position].tobytes()
        figures: dict[str, Any] = {"vectors": int(has.sum()), "width": 384, "by_sql_per_second": by_sql}
        for kind in ("vector", "halfvec"):
            figures[kind] = _published(client, job_id, matrix, has, kind)
        return figures


def _published(
    client: Client, job_id: str, matrix: NDArray[np.float32], has: NDArray[np.bool_], kind: str
) -> dict[str, Any]:
    table = PgvectorTable(client.stores.database, f"grain_{kind}", matrix.shape[1], kind)
    began = time.monotonic()
    done = publish(client.stores, client.job(job_id), table, False)
    rate = done.added / (time.monotonic() - began)
    assert done.added == has.sum() and publish(client.stores, client.job(job_id), table, False).added == 0
    questions = made_vectors(50, matrix.shape[1], 99_999)
    kept = matrix.astype(np.float16).astype(np.float32) if kind == "halfvec" else matrix
    closeness = np.where(has, np.nan_to_num(questions @ np.nan_to_num(kept).T, nan=-2), -2)
    exact = np.argsort(-closeness, axis=1)[:, :10]
    before, one_by_one = _nearest(client.stores.database, table.name, kind, questions, _MORE)
    index = table.index("cosine")
    began = time.monotonic()
    table.build(index, table.count())
    built = time.monotonic() - began
    after = {most: _nearest(client.stores.database, table.name, kind, questions, most) for most in (_DEFAULT, _MORE)}
    return {
        "vectors_per_second": rate,
        "index_seconds": built,
        "index_memory_mb": index.memory(done.added),
        "questions": len(questions),
        "exact_as_numpy": _recall(before, exact),
        "exact_ms": one_by_one,
        "hnsw": {most: {"recall_at_10": _recall(near, exact), "ms": took} for most, (near, took) in after.items()},
    }


def _nearest(
    database: Database, table: str, kind: str, questions: NDArray[np.float32], most: int
) -> tuple[list[list[int]], float]:
    """Return the ten nearest of each question, and how long one took, in milliseconds."""
    near = text(f"SELECT position FROM {table} ORDER BY embedding <=> CAST(:question AS {kind}) LIMIT 10")
    with database.read() as connection:
        connection.execute(text(f"SET LOCAL hnsw.ef_search = {most}"))
        began = time.monotonic()
        found = [list(connection.execute(near, {"question": str(one.tolist())}).scalars()) for one in questions]
        return found, (time.monotonic() - began) / len(questions) * 1000


def _recall(found: list[list[int]], exact: NDArray[np.int64]) -> float:
    return float(np.mean([len(set(one) & set(other)) / 10 for one, other in zip(found, exact.tolist(), strict=True)]))


def main() -> None:
    """Measure and keep the figures."""
    parser = argparse.ArgumentParser(prog="benchmarks.data", description=__doc__)
    parser.add_argument("--texts", type=int, default=100_000, help="texts that are moved, and vectors published")
    parser.add_argument("--sized", type=int, default=16_000, help="vectors whose room is measured")
    parser.add_argument("--only", choices=("move", "sizes", "pgvector"), nargs="+")
    asked = parser.parse_args()
    parts = {
        "move": lambda: measure_move(asked.texts),
        "pgvector": lambda: measure_sql_and_pgvector(asked.texts),
        "sizes": lambda: measure_sizes(asked.sized),
    }
    kept = Kept("data")
    for name in asked.only or parts:
        before = os.getloadavg()[0]
        figures = parts[name]()
        load = [round(one, 1) for one in (before, os.getloadavg()[0])]
        kept.put(name, {"machine": describe(), "figures": figures, "load_average": load})
        console.print(name, figures)


if __name__ == "__main__":
    main()
