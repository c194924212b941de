"""The right to write the next part of a job: it is given out again and again, and the one given last alone holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from storage.arrivals import Chunks, more_counts
from storage.contract.errors import Conflict, WrongState
from storage.contract.states import JobState
from storage.database import now_ms
from storage.parttables import PartedJobRow, PartRow
from storage.tables import JobRow

#: The job has not been deleted.
IS_THERE: Any = JobRow.deleted_at.is_(None)


@dataclass(frozen=True, slots=True)
class Taking:
    """The right to write the next part.

    Args:
        job_id: The job.
        token: Stands for the right, until another one is given.
        next: Number of the part that is due.
        items: Items of all parts before it.
        chunks: Chunks of all parts before it.
        on_invalid: `refuse` or `keep`.
        has_ids: Whether the items before it have callers' ids.
    """

    job_id: str
    token: int
    next: int
    items: int
    chunks: int
    on_invalid: str
    has_ids: bool


def take(connection: Connection, job_id: str) -> Taking:
    """Give out the right anew, inside a running transaction.

    Raises:
        WrongState: When the job takes no parts.
    """
    _lock(connection, job_id)
    raised = update(PartedJobRow).where(PartedJobRow.job_id == job_id).values(token=PartedJobRow.token + 1)
    row = connection.execute(raised.returning(PartedJobRow.token, PartedJobRow.on_invalid)).first()
    if row is None:
        raise _not_parted(job_id)
    has_ids = select(JobRow.has_ids).where(JobRow.id == job_id)
    ids = bool(connection.execute(has_ids).scalar_one())
    return Taking(job_id, row.token, *ends(connection, job_id), row.on_invalid, ids)


def guard(connection: Connection, taking: Taking, chunks: Chunks = ()) -> str:
    """Return whose job it is, if the right to write to it still holds; inside a running transaction.

    Args:
        connection: Of the transaction.
        taking: The right.
        chunks: Rows of chunks that it writes, which the job's counts take in.

    Raises:
        WrongState: When the job takes no parts any more.
        Conflict: When another writer has followed.
    """
    key_id = _lock(connection, taking.job_id, chunks)
    token = select(PartedJobRow.token).where(PartedJobRow.job_id == taking.job_id)
    if connection.execute(token).scalar() != taking.token:
        raise Conflict(
            f"Another request writes to job {taking.job_id}.", f"GET /v1/jobs/{taking.job_id}/parts says what is there."
        )
    return key_id


def ends(connection: Connection, job_id: str) -> tuple[int, int, int]:
    """Return the number of parts, of their items and of their chunks."""
    sums = select(func.count(), func.sum(PartRow.items), func.max(PartRow.chunk_end)).where(PartRow.job_id == job_id)
    parts, items, chunks = connection.execute(sums).one()
    return int(parts), int(items or 0), int(chunks or 0)


def require_parted(connection: Connection, job_id: str) -> None:
    """Do nothing if a job is submitted in parts.

    Raises:
        WrongState: When it is not.
    """
    if connection.execute(select(PartedJobRow.job_id).where(PartedJobRow.job_id == job_id)).first() is None:
        raise _not_parted(job_id)


def _lock(connection: Connection, job_id: str, chunks: Chunks = ()) -> str:
    """Note that the producer lives, and return whose job it is; whoever writes to it takes turns from here on."""
    accepting = (JobRow.id == job_id, JobRow.state == JobState.ACCEPTING, IS_THERE)
    changed = {"touched_at": now_ms(), **more_counts(chunks)}
    touched = update(JobRow).where(*accepting).values(changed).returning(JobRow.key_id)
    key_id: str | None = connection.execute(touched).scalar()
    if key_id is None:
        raise WrongState(f"Job {job_id} takes no more parts.", "It was sealed, or given up after a day without a part.")
    return key_id


def _not_parted(job_id: str) -> WrongState:
    return WrongState(f"Job {job_id} is not submitted in parts.", 'Begin one that is: POST /v1/jobs {"parts": true}.')
