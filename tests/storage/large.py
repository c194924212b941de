"""Jobs of many chunks, made at once, and what the database is asked while something is done with them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, insert, select

from storage import texts as packing
from storage.contract import failpoints
from storage.database import Database
from storage.stores import Stores
from storage.tables import ChunkRow, InputRow, JobRow, ResultRow
from storage.vectors import to_bytes
from tests.storage.builders import accept, chunk, result

#: Items of a chunk, and tokens that it is estimated at.
ITEMS, TOKENS = 2, 20


def large_job(stores: Stores, chunks: int, owner: str = "", failed: int = 0) -> str:
    """Return a job of so many chunks; of the first `failed` of them, which are then done, an item has an error."""
    job_id = accept(stores, [chunk(0)], owner=owner)
    text = packing.pack([b"wheat", b"rye"])
    each: dict[str, Any] = {"state": "pending", "size": ITEMS, "token_estimate": TOKENS}
    numbers = range(1, chunks)
    with stores.database.write() as connection:
        rows = [each | {"job_id": job_id, "number": number, "first": ITEMS * number} for number in numbers]
        connection.execute(insert(ChunkRow), rows)
        connection.execute(insert(InputRow), [{"job_id": job_id, "number": n, "texts": text} for n in numbers])
        connection.execute(JobRow.__table__.update().where(JobRow.id == job_id).values(arrived=None, estimated=None))
    assert stores.jobs.seal(job_id, ITEMS * chunks, chunks)
    if failed:
        _fail(stores.database, job_id, failed)
    return job_id


def _fail(database: Database, job_id: str, failed: int) -> None:
    """Let the first chunks of a job be done, an item of each with an error; the job with them, if these are all."""
    brought = result(failed=[1])
    of_result = brought.to_row() | {"vectors": to_bytes(brought.matrix, "float32"), "token": 1}
    done: dict[str, Any] = {"state": "done", "succeeded": 1, "failed": 1, "tokens": 14, "token": 1, "done_at": 1}
    with database.write() as connection:
        connection.execute(
            insert(ResultRow), [of_result | {"job_id": job_id, "number": number} for number in range(failed)]
        )
        of_job = ChunkRow.__table__.update().where(ChunkRow.job_id == job_id, ChunkRow.number < failed)
        connection.execute(of_job.values(done))
        ended: dict[str, Any] = {"state": "completed", "finished_at": 1, "started_at": 1}
        some = select(ChunkRow.number).where(ChunkRow.job_id == job_id, ChunkRow.state != "done").limit(1)
        if connection.execute(some).first() is None:
            connection.execute(JobRow.__table__.update().where(JobRow.id == job_id).values(ended))


def job_row(database: Database, job_id: str) -> Any:
    """Return a job's row."""
    with database.read() as connection:
        return connection.execute(select(JobRow.__table__).where(JobRow.id == job_id)).one()


@contextmanager
def changed_chunks(database: Database) -> Iterator[list[int]]:
    """Yield how many chunks each statement changes in the block."""
    found: list[int] = []

    def look(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE chunks"):
            found.append(cursor.rowcount)

    event.listen(database.engine, "after_cursor_execute", look)
    try:
        yield found
    finally:
        event.remove(database.engine, "after_cursor_execute", look)


def killed(url: str, place: str, call: str, folder: Path, setting: str) -> None:
    """Have a process call something of the stores, and die at a place.

    Args:
        url: Of the database.
        place: A failpoint.
        call: What it calls, of `stores`.
        folder: An empty one.
        setting: What it does first, such as making the steps small.
    """
    (folder / f"{place}.kill").touch()
    lines = ("from storage import retries, settling", "from storage.database import Database")
    lines += ("from storage.stores import Stores", setting, f"stores = Stores.on(Database({url!r}))", f"stores.{call}")
    environment = os.environ | {failpoints.VARIABLE: str(folder)}
    program = subprocess.run([sys.executable, "-c", "\n".join(lines)], env=environment, timeout=300, check=False)
    assert program.returncode == -9, program.returncode


def until_done(step: Callable[[], bool]) -> int:
    """Do steps until nothing is left; return how many that were."""
    steps = 1
    while step():
        steps += 1
    return steps
