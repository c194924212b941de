"""What waits, what is in hand and what has just been done: by model, and by worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from storage.contract.states import ChunkState
from storage.database import Database, now_ms
from storage.loads import ADDED_UP, LOAD, OPEN, Load, load_of
from storage.tables import CHUNK_IS_LEASED, JOB_IS_OPEN, ChunkRow, JobRow, WorkerRow
from storage.workers import IS_LIVE

#: The rates are those of the last so many milliseconds.
RATE_WINDOW = 30_000


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """One live worker and what it has in hand.

    Args:
        id: The id of this start of the process.
        model_id: The model identity it serves.
        host: Where it runs.
        pid: Its process id there.
        device: What it is pinned to.
        up_seconds: For how long it has been registered.
        silent_seconds: How long ago it was heard of.
        in_hand: What it has claimed and not yet finished.
        jobs: Of how many jobs that is.
    """

    id: str
    model_id: str
    host: str
    pid: int
    device: str
    up_seconds: float
    silent_seconds: float
    in_hand: Load
    jobs: int


@dataclass(frozen=True, slots=True)
class Workload:
    """All of it at one moment.

    Args:
        workers: Live workers, by host and device.
        queued: What waits or is in hand, by model id; under an empty id what no worker has ever been known for.
        tokens_per_second: Of the last 30 s, by model id.
        oldest_seconds: How long ago the oldest job was accepted of which something waits or is in hand, by model id.
    """

    workers: list[WorkerLoad]
    queued: dict[str, Load]
    tokens_per_second: dict[str, float]
    oldest_seconds: dict[str, float]


class WorkloadStore:
    """Every read of how much there is to do."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self) -> Workload:
        """Return what there is to do and who does it."""
        with self._db.read() as connection:
            waiting = connection.execute(_QUEUED).all()
            now = int(connection.execute(select(now_ms())).scalar_one())
            rates = {row.model_id or "": _rate(row, now) for row in connection.execute(_recent(now))}
            queued = {row.model_id or "": load_of(row) for row in waiting}
            oldest = {row.model_id or "": max(0, now - int(row.oldest)) / 1000 for row in waiting}
            return Workload(_workers(connection), queued, rates, oldest)


def _workers(connection: Connection) -> list[WorkerLoad]:
    in_hand = {row.lease_owner: row for row in connection.execute(_IN_HAND)}
    found = []
    for row in connection.execute(_WORKERS):
        held = in_hand.get(row.id)
        up, silent = (max(0, row.now - then) / 1000 for then in (row.started_at, row.last_seen))
        load, jobs = (Load(), 0) if held is None else (load_of(held), int(held.jobs))
        found.append(WorkerLoad(row.id, row.model_id, row.host, row.pid, row.device, up, silent, load, jobs))
    return found


def _rate(row: Any, now: int) -> float:
    # Work that began a second ago is not thinned out over half a minute.
    span = min(RATE_WINDOW, max(1_000, now - int(row.began or 0)))
    return round(1000 * int(row.tokens or 0) / span, 1)


_OF_JOB = ChunkRow.job_id == JobRow.id
_QUEUED = (
    select(JobRow.model_id, *ADDED_UP, func.min(JobRow.created_at).label("oldest"))
    .join(OPEN, OPEN.c.job_id == JobRow.id)
    .where(JOB_IS_OPEN)
    .group_by(JobRow.model_id)
)
_IN_HAND = (
    select(ChunkRow.lease_owner, *LOAD, func.count(ChunkRow.job_id.distinct()).label("jobs"))
    .where(CHUNK_IS_LEASED)
    .group_by(ChunkRow.lease_owner)
)
_WORKERS = (
    select(
        WorkerRow.id,
        WorkerRow.model_id,
        WorkerRow.host,
        WorkerRow.pid,
        WorkerRow.device,
        WorkerRow.started_at,
        WorkerRow.last_seen,
        now_ms().label("now"),
    )
    .where(IS_LIVE)
    .order_by(WorkerRow.host, WorkerRow.device, WorkerRow.id)
)


def _recent(now: int) -> Any:
    """Return the statement of what has been done lately; a fixed moment, as SQLite would ask its clock at each row."""
    since = now - RATE_WINDOW
    # Chunks have no index of their time; jobs that were at work lately are few.
    lately = or_(JOB_IS_OPEN, and_(JobRow.finished_at.is_not(None), JobRow.finished_at > since))
    return (
        select(JobRow.model_id, func.sum(ChunkRow.tokens).label("tokens"), func.min(JobRow.started_at).label("began"))
        .join(ChunkRow, _OF_JOB)
        .where(lately, ChunkRow.state == ChunkState.DONE, ChunkRow.done_at > since)
        .group_by(JobRow.model_id)
    )
