"""What a look of `embedmill top` costs beside ten million texts: python -m benchmarks.looks.

Ten jobs of chunks that hold eighty texts each, the first of them half done. The processor time is that of the process
that looks and of PostgreSQL; it says more than the time by the clock on a machine that does other things too.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import insert

from benchmarks.databases import KINDS, OwnDatabase, own_database
from benchmarks.machine import describe
from benchmarks.results import FOLDER, console
from producer.storedoverview import StoredOverviews
from storage.contract.ids import new_id
from storage.contract.models import ModelCard
from storage.contract.options import JobOptions
from storage.contract.settings import Settings
from storage.database import Database, now_ms
from storage.newjobs import NewJob
from storage.stores import Stores
from storage.tables import CHUNKS, JOBS

_TEXTS, _IN_A_CHUNK, _JOBS = 10_000_000, 80, 10

#: Jobs that are shown, and looks that are measured.
_SHOWN, _LOOKS = 20, 21


def main() -> None:
    """Measure both databases and keep the figures."""
    found: dict[str, Any] = {"machine": describe(), "chunks": _TEXTS // _IN_A_CHUNK, "jobs": _JOBS}
    for kind in KINDS:
        with own_database(kind) as database:
            _fill(Database(database.url))
            found[kind] = _measure(database)
            console.print(kind, found[kind])
    Path(FOLDER / "looks.json").write_text(json.dumps(found, indent=1) + "\n")


def _fill(database: Database) -> None:
    stores, card = Stores.on(database), ModelCard("mill/grain", "5f1c0de", "float32", 384, 512, 6, "mean", True)
    stores.workers.register(card, new_id(), host="here", pid=1, device="cpu")
    of_job = _TEXTS // _IN_A_CHUNK // _JOBS
    for number in range(_JOBS):
        job_id = new_id()
        stores.jobs.create(NewJob(job_id, card.name, None, card.id, JobOptions().to_dict()))
        with database.write() as connection:
            for start in range(0, of_job, 5_000):
                chunks = range(start, min(of_job, start + 5_000))
                connection.execute(
                    insert(CHUNKS), [_row(job_id, chunk, number == 0 and chunk < of_job // 2) for chunk in chunks]
                )
        stores.jobs.seal(job_id, of_job * _IN_A_CHUNK, of_job)
        if number == 0:
            with database.write() as connection:
                begun = JOBS.update().where(JOBS.c.id == job_id)
                connection.execute(begun.values(state="running", started_at=now_ms()))
    if not database.is_sqlite:
        with database.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM ANALYZE")
    database.close()


def _row(job_id: str, number: int, is_done: bool) -> dict[str, Any]:
    row = {"job_id": job_id, "number": number, "first": number * _IN_A_CHUNK, "size": _IN_A_CHUNK}
    row |= {"state": "done" if is_done else "pending", "token_estimate": 8_000, "failed": 0, "truncated": 0}
    row |= {name: 0 for name in ("token", "claims", "crashes", "failures", "invalid")}
    done_at = int(time.time() * 1000) if is_done else None
    return row | {"succeeded": _IN_A_CHUNK * is_done, "tokens": 7_500 * is_done, "done_at": done_at}


def _measure(database: OwnDatabase) -> dict[str, float]:
    overviews = StoredOverviews(Settings(database_url=database.url, redis_url=None))
    clock, processor = [], []
    try:
        overviews.look(_SHOWN)
        for _ in range(_LOOKS):
            begin, used = time.perf_counter(), _used(database)
            overviews.look(_SHOWN)
            clock.append(1000 * (time.perf_counter() - begin))
            processor.append(1000 * (_used(database) - used))
    finally:
        overviews.close()
    told = {"least_ms": min(clock), "median_ms": statistics.median(clock)}
    told["processor_ms"] = statistics.fmean(processor)
    return {name: round(value, 1) for name, value in told.items()}


def _used(database: OwnDatabase) -> float:
    """Return the processor time of this process and of the database's server with all its processes."""
    used = time.process_time()
    if database.server is not None:
        server = psutil.Process(database.server)
        for process in (server, *server.children()):
            times = process.cpu_times()
            used += times.user + times.system
    return used


if __name__ == "__main__":
    main()
