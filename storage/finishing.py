"""The end of a job: the commit of its last chunk completes it, in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, bindparam, or_, select, update

from storage.contract.states import JobState
from storage.database import now_ms
from storage.tables import CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED, CHUNK_IS_PENDING, JOB_IS_OPEN, ChunkRow, JobRow


def finish_settled(connection: Connection, job_ids: Iterable[str]) -> list[str]:
    """Complete, inside a running transaction, those of the jobs none of whose chunks is open; return their ids."""
    finished = []
    for job_id in sorted(job_ids):
        this = {"this": job_id}
        if connection.execute(_PENDING, this).first():
            continue
        # Two workers may commit a job's last two chunks at once: whoever locks the job second sees both.
        connection.execute(_LOCK, this).first()
        if connection.execute(_COMPLETE, this).rowcount:
            finished.append(job_id)
    return finished


def has_open_chunks() -> ColumnElement[bool]:
    """Whether a job has chunks without an outcome."""
    # One by one: each has a partial index of its own, and SQLite would else walk all chunks of the job.
    of_job = select(ChunkRow.number).where(ChunkRow.job_id == JobRow.id)
    return or_(*(of_job.where(state).exists() for state in (CHUNK_IS_PENDING, CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED)))


# Made once: a worker ends a thousand small jobs in a second, and making a statement costs more than running it.
_PENDING = select(ChunkRow.number).where(ChunkRow.job_id == bindparam("this"), CHUNK_IS_PENDING).limit(1)
_LOCK = select(JobRow.id).where(JobRow.id == bindparam("this")).with_for_update()
_COMPLETE = (
    update(JobRow)
    .where(JobRow.id == bindparam("this"), JOB_IS_OPEN, ~has_open_chunks())
    .values(state=JobState.COMPLETED, finished_at=now_ms())
)
