"""The failed items of a completed job sent round again, a few thousand chunks at a time.

The first transaction opens the job again and sends a step of them; nearly always that is all. Else `unretried_from`
says from which position on the rest waits, others' transactions come in between, and nobody completes the job before
all were sent. It is a position, not a chunk's number: what is split meanwhile has other numbers, and no other items.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from storage.contract import failpoints
from storage.contract.errors import Conflict, ServerError, UnknownJob, WrongState
from storage.contract.states import ChunkState, JobState
from storage.database import Database
from storage.ends import begun_again
from storage.faults import retried
from storage.metering import SHARE_AGAIN
from storage.moments import iso
from storage.nextends import end_told
from storage.quotas import admit_again, owe
from storage.tables import CHUNK_HAS_FAILED, CHUNKS, ChunkRow, JobRow

logger = logging.getLogger(__name__)

#: Chunks that are sent round again in one transaction.
STEP = 4_000

#: Seconds for which whoever asks for it goes on; the reconciler does the rest.
AT_ONCE = 2.0

#: Pause between two steps, in seconds, in which other writers of a SQLite file get their turn.
_BREATH = 0.001

#: Chunks that are counted in one statement; and jobs that are looked for in one go.
_COUNTED, _SOME = 50_000, 256

#: How often a job is counted that is sent round and ends again meanwhile.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class _Failed:
    """What of a job failed, or of a stretch of it.

    Args:
        items: Items.
        tokens: Of the estimate, their share.
        chunks: Chunks that hold them.
        end: Position behind the last one.
    """

    items: int
    tokens: float
    chunks: int
    end: int


_NOTHING = _Failed(0, 0.0, 0, 0)


class RetryStore:
    """Every write that sends failed items round again."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def retry(self, job_id: str) -> int:
        """Send failed items round again; see `JobStore.retry_failed`."""
        for _ in range(_TRIES):
            # Counted before, and page by page: that may take as long as it takes.
            items = self._begin(job_id, *self._count(job_id))
            if items is not None:
                return items
        raise Conflict(f"Job {job_id} changes faster than its failed items are counted.", "Try again.")

    def unretried(self) -> list[str]:
        """Return jobs with failed items that are still to go round again."""
        with self._db.read() as connection:
            return list(connection.execute(_UNRETRIED).scalars())

    @retried
    def step(self, job_id: str) -> bool:
        """Send a few thousand chunks of a job round again; return whether more are left."""
        with self._db.write() as connection:
            return _step(connection, job_id)

    def _count(self, job_id: str) -> tuple[int | None, _Failed]:
        """Return a job's generation, None where it is not completed, and what of it would go round again."""
        items, tokens, chunks, place = 0, 0.0, 0, 0
        with self._db.read() as connection:
            generation = connection.execute(_GENERATION, {"job": job_id}).scalar()
        while generation is not None:
            with self._db.read() as connection:
                page = _page(connection, job_id, place, _COUNTED)
            items, tokens, chunks = items + page.items, tokens + page.tokens, chunks + page.chunks
            if page.chunks < _COUNTED:
                break
            place = page.end
        return generation, _Failed(items, tokens, chunks, place)

    @retried
    def _begin(self, job_id: str, generation: int | None, failed: _Failed) -> int | None:
        """Open a job again and send a step of what failed; None where it is another generation than was counted."""
        with end_told(self._db), self._db.write() as connection:
            job = connection.execute(_LOCKED, {"job": job_id}).first()
            _check(job_id, job)
            if job is None or job.generation != generation:
                return None
            if failed.items and job.texts_gone_at is not None:
                raise WrongState(
                    f"The texts of job {job_id} are gone since {iso(job.texts_gone_at)}, as was asked for.",
                    "Submit the failed ones again: embedmill results JOB --failed lists them.",
                )
            if not failed.items:
                return 0
            sent = _send(connection, job_id, 0)
            is_all = sent.chunks == failed.chunks
            values = begun_again() | {"unretried_from": None if is_all else sent.end}
            connection.execute(update(JobRow).where(JobRow.id == job_id).values(values))
            admit_again(connection, job_id, job.key_id, failed.tokens, sent.tokens)
        if not is_all:
            self._go_on(job_id)
        return failed.items

    def _go_on(self, job_id: str) -> None:
        """Send what is left for a while; the reconciler does the rest."""
        deadline = time.monotonic() + AT_ONCE
        while time.monotonic() < deadline:
            failpoints.reach("retry.begun")
            try:
                if not self.step(job_id):
                    return
            except ServerError as error:
                logger.warning("what failed of job %s is sent round again by the reconciler: %s", job_id, error)
                return
            if self._db.is_sqlite:
                time.sleep(_BREATH)


def _check(job_id: str, job: Any) -> None:
    """Raise the error of a job that cannot be sent round again, if it is one."""
    if job is None:
        raise UnknownJob(job_id)
    if job.kind == "call":
        raise WrongState(f"Job {job_id} is a call, which nobody waits for any more.", "Send it again.")
    if job.state != JobState.COMPLETED:
        raise WrongState(f"Job {job_id} is {job.state}.", "Only a completed job's failed items are retried.")


def _page(connection: Connection, job_id: str, place: int, most: int) -> _Failed:
    """Return what failed in the next chunks from a position on."""
    row = connection.execute(_FAILED, {"job": job_id, "place": place, "most": most}).one()
    # PostgreSQL adds bigints up to a decimal.
    return _Failed(int(row.texts or 0), float(row.tokens or 0), int(row.chunks), int(row.end or 0))


def _send(connection: Connection, job_id: str, place: int) -> _Failed:
    """Send a step of what failed from a position on round again; return what that was."""
    sent = _page(connection, job_id, place, STEP)
    if sent.chunks:
        connection.execute(_SEND, {"of": job_id, "place": place, "end": sent.end})
    return sent


def _step(connection: Connection, job_id: str) -> bool:
    job = connection.execute(_LOCKED, {"job": job_id}).first()
    if job is None or job.unretried_from is None or job.state == JobState.ACCEPTING:
        return False
    goes_on = job.state in (JobState.QUEUED, JobState.RUNNING, JobState.COMPLETED) and job.texts_gone_at is None
    sent = _send(connection, job_id, job.unretried_from) if goes_on else _NOTHING
    more = sent.chunks == STEP
    values: dict[str, Any] = {"unretried_from": sent.end if more else None}
    if job.state == JobState.COMPLETED and sent.chunks:
        # Completed too early, by a program of the version before, which knows nothing of what is left.
        values |= begun_again()
    # Where all that was sent before is done by now, the reconciler completes the job, and tells of it.
    connection.execute(update(JobRow).where(JobRow.id == job_id).values(values))
    if job.key_id and sent.tokens:
        owe(connection, {job.key_id: sent.tokens})
    return more


# Statements, put together once.

_OF_JOB = JobRow.id == bindparam("job")
_IS_THERE = JobRow.deleted_at.is_(None)
_GENERATION = select(JobRow.generation).where(_OF_JOB, _IS_THERE, JobRow.state == JobState.COMPLETED)
_COLUMNS = ("state", "kind", "key_id", "texts_gone_at", "generation", "unretried_from")
_LOCKED = select(*(getattr(JobRow, name) for name in _COLUMNS)).where(_OF_JOB, _IS_THERE).with_for_update()
_IS_UNRETRIED = JobRow.unretried_from.is_not(None) & (JobRow.state != JobState.ACCEPTING)
_UNRETRIED = select(JobRow.id).where(_IS_UNRETRIED, _IS_THERE).order_by(JobRow.id).limit(_SOME)
#: Done chunks with failed items that were not refused at the door; along an index of those with failed ones alone.
_GOES_AGAIN = (CHUNK_HAS_FAILED, ChunkRow.state == ChunkState.DONE, ChunkRow.failed > ChunkRow.invalid)
_NEXT = (
    select(
        (ChunkRow.failed - ChunkRow.invalid).label("texts"),
        SHARE_AGAIN.label("tokens"),
        (ChunkRow.first + ChunkRow.size).label("end"),
    )
    .where(ChunkRow.job_id == bindparam("job"), ChunkRow.first >= bindparam("place"), *_GOES_AGAIN)
    .order_by(ChunkRow.first)
    .limit(bindparam("most"))
    .subquery()
)
_FAILED = select(
    func.sum(_NEXT.c.texts).label("texts"),
    func.sum(_NEXT.c.tokens).label("tokens"),
    func.count(_NEXT.c.end).label("chunks"),
    func.max(_NEXT.c.end).label("end"),
)
_SEND = (
    update(CHUNKS)
    .where(ChunkRow.job_id == bindparam("of"), *_GOES_AGAIN)
    .where(ChunkRow.first >= bindparam("place"), ChunkRow.first < bindparam("end"))
    .values(state=ChunkState.PENDING, failed=ChunkRow.invalid, crashes=0, failures=0, not_before=None)
)
