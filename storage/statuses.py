"""Where a job stands, counted from its chunks in one query: nothing is added up on a hot row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any

from sqlalchemy import Connection, bindparam, select

from storage.chunkcounts import ChunkCounts, count_chunks
from storage.contract.errors import UnknownJob
from storage.contract.keeping import Keeping
from storage.contract.states import FINAL_JOB_STATES, JobState
from storage.database import Database, now_ms
from storage.jobstatus import JobStatus as JobStatus
from storage.moments import iso
from storage.tables import JobRow, ModelRow
from storage.turns import Turn, Turns
from storage.workers import live_workers

#: Jobs whose sums are remembered: what is over changes no more, and lists show it again and again.
_REMEMBERED = 2_048

#: A job of more chunks is huge: what it cost to add them up is made up for by not doing it again for a while.
_HUGE = 10_000

#: Largest share of time that adding up one huge job may take, and the longest that its sums are believed, in seconds.
_SHARE, _BELIEVED = 0.05, 60.0

#: A job, its state, how often it was sent round again, and when it ended.
_Stand = tuple[str, str, int, int]

#: The rate shown is that of the last so many milliseconds.
_RATE_WINDOW = 30_000


@dataclass(frozen=True, slots=True)
class Look:
    """Where a job stands, and what of it waits, for who adds up all jobs.

    Args:
        status: As everybody is told.
        model_id: The identity that it is bound to; None where none was ever known.
        chunks: Chunks that have no outcome yet.
        tokens: Tokens in them, estimated.
        created: When it was accepted, in milliseconds since 1970.
    """

    status: JobStatus
    model_id: str | None
    chunks: int
    tokens: int
    created: int


class StatusStore:
    """Every read of where jobs stand."""

    def __init__(self, database: Database) -> None:
        self._db = database
        #: What was added up, and until when it is believed.
        self._known: dict[_Stand, tuple[ChunkCounts, float]] = {}
        #: Who adds up which huge job.
        self._turns = Turns()

    def get(self, job_id: str) -> JobStatus:
        """Return where a job stands.

        Raises:
            UnknownJob: When there is none of that id.
        """
        return self._look(job_id).status

    def waiting_for(self, job_id: str) -> str | None:
        """Return what a job waits for and what to do about it, or None; no chunk is counted for that.

        Raises:
            UnknownJob: When there is none of that id.
        """
        with self._db.read(one_moment=True) as connection:
            return _waiting_for(connection, _job(connection, job_id))

    def many(self, job_ids: Sequence[str]) -> list[JobStatus]:
        """Return where several jobs stand, leaving out those deleted meanwhile."""
        return [look.status for look in self.looks(job_ids)]

    def looks(self, job_ids: Sequence[str]) -> list[Look]:
        """Return the same with what of each waits, leaving out those deleted meanwhile."""
        found = []
        for job_id in job_ids:
            try:
                found.append(self._look(job_id))
            except UnknownJob:
                continue
        return found

    def _look(self, job_id: str) -> Look:
        while True:
            # A retry between two statements would show a completed job with items that are pending.
            with self._db.read(one_moment=True) as connection:
                job = _job(connection, job_id)
                counts = self._counts(connection, job_id, job)
                if isinstance(counts, ChunkCounts):
                    status = _status(connection, job_id, job, counts)
                    return Look(status, job.model_id, counts.chunks_left, counts.estimated_left, job.created_at)
            # Outside: who waits needs no connection.
            counts.wait()

    def _counts(self, connection: Connection, job_id: str, job: Any) -> ChunkCounts | Turn:
        """Return the sums over a job's chunks: remembered of what has ended, and for a while of what is huge.

        Or the turn of somebody else who adds up the same huge job.
        """
        stand = (job_id, job.state, int(job.generation), int(job.finished_at or 0))
        if (known := self._believed(stand)) is not None:
            return known
        if job.chunk_count <= _HUGE:
            return self._added_up(connection, stand, job)
        with self._turns.turn(job_id) as other:
            # Somebody may have found it between the look and the turn.
            return other or self._believed(stand) or self._added_up(connection, stand, job)

    def _believed(self, stand: _Stand) -> ChunkCounts | None:
        counts, until = self._known.get(stand, (None, 0.0))
        return counts if monotonic() < until else None

    def _added_up(self, connection: Connection, stand: _Stand, job: Any) -> ChunkCounts:
        begin = monotonic()
        begun = job.started_at is not None or job.state not in (JobState.ACCEPTING, JobState.QUEUED)
        waiting = job.state != JobState.COMPLETED
        counts = count_chunks(connection, stand[0], job.now - _RATE_WINDOW, begun, waiting)
        settled = job.state in FINAL_JOB_STATES and not counts.chunks_left
        if job.state in FINAL_JOB_STATES:
            counts = counts.ended()
        if settled:
            self._remember(stand, counts, inf)
        elif job.chunk_count > _HUGE:
            self._remember(stand, counts, monotonic() + min((monotonic() - begin) / _SHARE, _BELIEVED))
        return counts

    def _remember(self, stand: _Stand, counts: ChunkCounts, until: float) -> None:
        if len(self._known) >= _REMEMBERED:
            # All at once, since many threads look: what is shown again is added up again.
            self._known = {}
        self._known[stand] = counts, until


def _job(connection: Connection, job_id: str) -> Any:
    job = connection.execute(_JOB, {"job": job_id}).first()
    if job is None:
        raise UnknownJob(job_id)
    return job


def _status(connection: Connection, job_id: str, job: Any, counts: ChunkCounts) -> JobStatus:
    rate = _rate(job, counts)
    keeping = Keeping.of_row(job.keep_for, job.keep_texts_for)
    return JobStatus(
        id=job_id,
        state=job.state,
        model=job.model,
        total=job.total or counts.size,
        succeeded=counts.succeeded,
        failed=counts.failed,
        cancelled=counts.cancelled,
        pending=counts.pending,
        truncated=counts.truncated,
        tokens=counts.tokens,
        tokens_per_second=None if rate is None else round(rate, 1),
        eta_seconds=_eta(job, counts, rate),
        created_at=iso(job.created_at) or "",
        started_at=iso(job.started_at),
        finished_at=iso(job.finished_at),
        error=job.error,
        waiting_for=_waiting_for(connection, job),
        keep_days=keeping.days,
        keep_texts_days=keeping.texts_days,
        kept_until=iso(job.kept_until),
        texts_kept_until=iso(_texts_until(job)),
        name=job.name,
        labels=_labels(job.labels),
    )


def _labels(kept: Any) -> dict[str, str]:
    """Return a job's labels; whoever wrote anything else into the row does not break the list for others."""
    return {name: word for name, word in kept.items() if isinstance(word, str)} if isinstance(kept, dict) else {}


def _texts_until(job: Any) -> int | None:
    """Return when a job's texts go, or went: with the job, where nothing else was said."""
    earlier = [one for one in (job.texts_until, job.kept_until) if one is not None]
    return job.texts_gone_at if job.texts_gone_at is not None else min(earlier, default=None)


def _rate(job: Any, counts: ChunkCounts) -> float | None:
    if job.started_at is None:
        return None
    if job.finished_at is not None:
        spent, tokens = job.finished_at - job.started_at, counts.tokens
    else:
        spent, tokens = min(job.now - job.started_at, _RATE_WINDOW), counts.recent
    return 1000 * tokens / max(spent, 1) if tokens else None


def _eta(job: Any, counts: ChunkCounts, rate: float | None) -> float | None:
    if job.state in FINAL_JOB_STATES or not rate:
        return None
    real = counts.tokens / counts.estimated_done if counts.estimated_done else 1.0
    return round(counts.estimated_left * real / rate, 1)


def _waiting_for(connection: Connection, job: Any) -> str | None:
    if job.state == JobState.ACCEPTING:
        return "the end of its submission"
    if job.state in FINAL_JOB_STATES or live_workers(connection)[job.model_id or ""]:
        return None
    revision = f" --revision {job.revision}" if job.revision and job.model_id is None else ""
    if job.model_id is not None and (other := _served_otherwise(connection, job)):
        return other
    return f"a worker that serves {job.model}; start one: embedmill up (or worker) --model {job.model}{revision}"


def _served_otherwise(connection: Connection, job: Any) -> str | None:
    """Return what a job waits for whose model is served now, but at another revision or in another precision."""
    live = live_workers(connection)
    known = select(ModelRow.id, ModelRow.revision, ModelRow.precision).where(ModelRow.name == job.model)
    identities = connection.execute(known).all()
    if not any(live[one.id] for one in identities):
        return None
    bound = next(one for one in identities if one.id == job.model_id)
    dtype = "bfloat16" if bound.precision == "half" else bound.precision
    return (
        f"a worker that serves {job.model} at revision {bound.revision[:12]} in {bound.precision}, which is not the one"
        f" served now; start one (--revision {bound.revision} --dtype {dtype}), or cancel it and submit again"
    )


# Statements of every status, put together once.

_JOB = select(
    JobRow.state,
    JobRow.model,
    JobRow.revision,
    JobRow.model_id,
    JobRow.total,
    JobRow.chunk_count,
    JobRow.generation,
    JobRow.error,
    JobRow.created_at,
    JobRow.started_at,
    JobRow.finished_at,
    JobRow.keep_for,
    JobRow.keep_texts_for,
    JobRow.kept_until,
    JobRow.texts_until,
    JobRow.texts_gone_at,
    JobRow.name,
    JobRow.labels,
    now_ms().label("now"),
).where(JobRow.id == bindparam("job"), JobRow.deleted_at.is_(None))
