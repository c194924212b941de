"""The end of a job: the commit of its last chunk completes it, in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from storage import naming
from storage.contract.states import JobState
from storage.ends import ended
from storage.tables import CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED, CHUNK_IS_PENDING, JOB_IS_OPEN, JOBS, ChunkRow, JobRow


def finish_settled(connection: Connection, job_ids: Iterable[str]) -> list[str]:
    """Complete, inside a running transaction, those of the jobs none of whose chunks is open; return their ids."""
    touched = {"jobs": list(job_ids)}
    # Two workers may commit a job's last two chunks at once: whoever locks the job second sees both. A job that has
    # chunks left to send is not locked at all.
    ending = {"jobs": list(connection.execute(_ENDING, touched).scalars())}
    return list(connection.execute(_FINISH, ending).scalars()) if ending["jobs"] else []


def has_open_chunks() -> ColumnElement[bool]:
    """Whether a job has chunks without an outcome."""
    # One by one: each has a partial index of its own, and SQLite would else walk all chunks of the job.
    of_job = select(ChunkRow.number).where(ChunkRow.job_id == JobRow.id)
    out = (of_job.where(state).exists() for state in (CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED))
    return or_(_has_pending(), *out)


def _has_pending() -> ColumnElement[bool]:
    """Whether a job has chunks that wait to be sent.

    They are sent in order, so that the index is read from its end: while a transaction is open for long, its beginning
    is full of dead entries of all that were pending since.
    """
    last = select(func.max(ChunkRow.number)).where(ChunkRow.job_id == JobRow.id, CHUNK_IS_PENDING)
    return last.correlate(JobRow).scalar_subquery().is_not(None)


#: Nothing of the job is still to be sent round again; see `storage/retries.py`.
IS_WHOLE = JobRow.unretried_from.is_(None)

# Statements of every commit, put together once.

_OF_JOBS = JobRow.id.in_(naming.one_of("jobs"))
_ENDING = select(JobRow.id).where(_OF_JOBS, ~_has_pending()).order_by(JobRow.id).with_for_update()
_FINISH = (
    update(JOBS)
    .where(_OF_JOBS, JOB_IS_OPEN, IS_WHOLE, ~has_open_chunks())
    .values(ended(JobState.COMPLETED))
    .returning(JobRow.id)
)
