"""What waits, what is in hand and what has just been done: by model, and by worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from storage.contract.models import Priority
from storage.contract.states import OPEN_CHUNK_STATES, ChunkState
from storage.database import Database, now_ms
from storage.tables import CHUNK_IS_LEASED, JOB_IS_OPEN, ChunkRow, JobRow, ModelRow, WorkerRow
from storage.workers import IS_LIVE

#: The rates are those of the last so many milliseconds.
RATE_WINDOW = 30_000


@dataclass(frozen=True, slots=True)
class Load:
    """Some work, counted three ways; tokens are estimates before they have been read.

    Args:
        chunks: Chunks.
        texts: Texts in them.
        tokens: Tokens in them.
    """

    chunks: int = 0
    texts: int = 0
    tokens: int = 0


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


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for one model or is in hand, at one moment.

    Args:
        bulk: That of bulk jobs.
        urgent: That of urgent jobs.
        oldest_seconds: How long ago the oldest of these jobs was accepted; 0 where there is none.
        workers: Live workers that serve it.
    """

    bulk: Load
    urgent: Load
    oldest_seconds: float
    workers: int


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
            queued = {row.model_id or "": _load(row) for row in waiting}
            oldest = {row.model_id or "": max(0, now - int(row.oldest)) / 1000 for row in waiting}
            return Workload(_workers(connection), queued, rates, oldest)

    def backlog(self, model: str, revision: str | None = None, precision: str | None = None) -> Backlog:
        """Return what waits for one model; nothing where nobody has ever asked for it.

        Args:
            model: Its name, as jobs have it.
            revision: Only what this revision, or one that begins so, may do; default: any.
            precision: Only what a worker of this class of precision may do; default: any.
        """
        identity = [ModelRow.name == model]
        if revision is not None:
            identity.append(ModelRow.revision.startswith(revision, autoescape=True))
        if precision is not None:
            identity.append(ModelRow.precision == precision)
        ids = select(ModelRow.id).where(*identity)
        # A job that no worker's identity was bound to yet is taken by the first one that registers, of any precision.
        theirs = or_(JobRow.model_id.in_(ids), and_(JobRow.model_id.is_(None), JobRow.model == model))
        serving = select(func.count()).select_from(WorkerRow).where(IS_LIVE, WorkerRow.model_id.in_(ids))
        with self._db.read() as connection:
            loads = {row.priority: row for row in connection.execute(_BY_PRIORITY.where(theirs))}
            now = int(connection.execute(select(now_ms())).scalar_one())
            workers = int(connection.execute(serving).scalar_one())
        bulk, urgent = (
            _load(loads[priority]) if priority in loads else Load() for priority in (Priority.BULK, Priority.URGENT)
        )
        oldest = min((int(row.oldest) for row in loads.values()), default=now)
        return Backlog(bulk, urgent, max(0, now - oldest) / 1000, workers)


def _workers(connection: Connection) -> list[WorkerLoad]:
    in_hand = {row.lease_owner: row for row in connection.execute(_IN_HAND)}
    found = []
    for row in connection.execute(_WORKERS):
        held = in_hand.get(row.id)
        up, silent = (max(0, row.now - then) / 1000 for then in (row.started_at, row.last_seen))
        load, jobs = (Load(), 0) if held is None else (_load(held), int(held.jobs))
        found.append(WorkerLoad(row.id, row.model_id, row.host, row.pid, row.device, up, silent, load, jobs))
    return found


def _load(row: Any) -> Load:
    # PostgreSQL adds bigints up to a decimal.
    return Load(int(row.chunks), int(row.texts or 0), int(row.estimate or 0))


def _rate(row: Any, now: int) -> float:
    # Work that began a second ago is not thinned out over half a minute.
    span = min(RATE_WINDOW, max(1_000, now - int(row.began or 0)))
    return round(1000 * int(row.tokens or 0) / span, 1)


_LOAD = (
    func.count().label("chunks"),
    func.sum(ChunkRow.size - ChunkRow.succeeded - ChunkRow.failed).label("texts"),
    func.sum(ChunkRow.token_estimate).label("estimate"),
)
_OF_JOB = ChunkRow.job_id == JobRow.id
_QUEUED = (
    select(JobRow.model_id, *_LOAD, func.min(JobRow.created_at).label("oldest"))
    .join(ChunkRow, _OF_JOB)
    .where(JOB_IS_OPEN, ChunkRow.state.in_(sorted(OPEN_CHUNK_STATES)))
    .group_by(JobRow.model_id)
)
_BY_PRIORITY = (
    select(JobRow.priority, *_LOAD, func.min(JobRow.created_at).label("oldest"))
    .join(ChunkRow, _OF_JOB)
    .where(JOB_IS_OPEN, ChunkRow.state.in_(sorted(OPEN_CHUNK_STATES)))
    .group_by(JobRow.priority)
)
_IN_HAND = (
    select(ChunkRow.lease_owner, *_LOAD, func.count(ChunkRow.job_id.distinct()).label("jobs"))
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
