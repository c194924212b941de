"""What waits, what is in hand and what has just been done: by model, and by worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from storage.backlogs import Waiting
from storage.database import Database, now_ms
from storage.loads import LOAD, Load, load_of, waiting
from storage.pulses import Pulse
from storage.releases import Release
from storage.statuses import Look
from storage.tables import CHUNK_IS_LEASED, JOB_IS_OPEN, ChunkRow, JobRow, WorkerRow
from storage.tallies import Tally
from storage.workers import IS_LIVE


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
        pulse: How it is, as it told with its last heartbeat.
        release: Which program it is.
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
    pulse: Pulse
    release: Release


@dataclass(frozen=True, slots=True)
class Workload:
    """All of it at one moment.

    Args:
        workers: Live workers, by host and device.
        queued: What waits or is in hand, by model id; under an empty id what no worker has ever been known for.
        tokens_per_second: Of the last 30 s, by model id, as live workers have told it with their last heartbeats.
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

    def get(self, beside: Sequence[Look] = (), waits: Sequence[Waiting] | None = None) -> Workload:
        """Return what there is to do and who does it.

        Args:
            beside: Jobs that have just been looked at, whose chunks need not be counted again.
            waits: What `BacklogStore.waiting` has returned a moment ago, of all jobs; default: it is asked now.
        """
        ids = [look.status.id for look in beside]
        with self._db.read() as connection:
            tally = Tally(int(connection.execute(select(now_ms())).scalar_one()))
            for one in waits or ():
                tally.waits(one.model_id, one.load, one.oldest)
            # A planner may read all chunks to find none: it is asked only where there are other jobs.
            if waits is None and (not ids or connection.execute(_others(ids)).first() is not None):
                for row in connection.execute(waiting(JobRow.model_id, jobs=_besides(ids))):
                    tally.waits(row.model_id, load_of(row), int(row.oldest))
            for look in beside if waits is None else ():
                tally.add(look)
            workers = _workers(connection)
        return Workload(workers, tally.queued, _rates(workers), tally.oldest())

    def workers(self) -> list[WorkerLoad]:
        """Return live workers with what they have in hand, by host and device."""
        with self._db.read() as connection:
            return _workers(connection)


def _workers(connection: Connection) -> list[WorkerLoad]:
    in_hand = {row.lease_owner: row for row in connection.execute(_IN_HAND)}
    found = []
    for row in connection.execute(_WORKERS):
        held = in_hand.get(row.id)
        up, silent = (max(0, row.now - then) / 1000 for then in (row.started_at, row.last_seen))
        load, jobs = (Load(), 0) if held is None else (load_of(held), int(held.jobs))
        release = Release(row.version, row.schema_version)
        pulse = Pulse(*(getattr(row, name) for name in _PULSE))
        who = (row.id, row.model_id, row.host, row.pid, row.device)
        found.append(WorkerLoad(*who, up, silent, load, jobs, pulse, release))
    return found


def _besides(ids: Sequence[str]) -> list[ColumnElement[bool]]:
    return [JobRow.id.not_in(ids)] if ids else []


def _others(ids: Sequence[str]) -> Any:
    """Return the statement that asks for any open job besides these."""
    return select(JobRow.id).where(JOB_IS_OPEN, JobRow.id.not_in(ids)).limit(1)


def _rates(workers: Sequence[WorkerLoad]) -> dict[str, float]:
    """Return the tokens a second of each model that is worked at, as its live workers have told them."""
    rates: dict[str, float] = {}
    for worker in workers:
        if worker.pulse.tokens_per_second:
            rates[worker.model_id] = rates.get(worker.model_id, 0.0) + worker.pulse.tokens_per_second
    return {model_id: round(rate, 1) for model_id, rate in rates.items()}


_IN_HAND = (
    select(ChunkRow.lease_owner, *LOAD, func.count(ChunkRow.job_id.distinct()).label("jobs"))
    .where(CHUNK_IS_LEASED)
    .group_by(ChunkRow.lease_owner)
)
_PULSE = tuple(field.name for field in fields(Pulse))
_WORKERS = (
    select(
        WorkerRow.id,
        WorkerRow.model_id,
        WorkerRow.host,
        WorkerRow.pid,
        WorkerRow.device,
        WorkerRow.started_at,
        WorkerRow.last_seen,
        WorkerRow.version,
        WorkerRow.schema_version,
        *(getattr(WorkerRow, name) for name in _PULSE),
        now_ms().label("now"),
    )
    .where(IS_LIVE)
    .order_by(WorkerRow.host, WorkerRow.device, WorkerRow.id)
)
