"""When a key with too many open jobs may have room again: worked out once its quota is free for others to ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal_column, select

from storage.contract.errors import QuotaExceeded, ServerError
from storage.contract.states import ChunkState
from storage.database import Database, now_ms
from storage.tables import JOB_IS_UNFINISHED, ChunkRow, JobRow

#: After how many seconds a job that cannot be told the end of may have ended: one that has not begun, and a huge one.
_SOON, _LATE = 10.0, 3600.0

#: A job of more chunks is huge: to add them up for a refusal would cost more than most requests.
_HUGE = 10_000

#: Jobs whose chunks are added up: those that began first.
_LOOKED_AT = 10


class TooManyJobs(QuotaExceeded):
    """Raised inside a transaction that has locked a key's quota: when one of its jobs may have ended is asked later.

    Args:
        message: As for all errors.
        remedy: As for all errors.
        key_id: The key.
    """

    def __init__(self, message: str, remedy: str, key_id: str) -> None:
        super().__init__(message, remedy, _SOON)
        self.key_id = key_id


@contextmanager
def end_told(database: Database) -> Iterator[None]:
    """Have a refusal for too many jobs say when one of them may have ended; opened around the transaction.

    Args:
        database: Where the jobs are.

    Raises:
        QuotaExceeded: The refusal.
    """
    try:
        yield
    except TooManyJobs as error:
        with suppress(ServerError), database.read() as connection:
            error.retry_after = _next_end(connection, {"key": error.key_id})
        raise


def _next_end(connection: Connection, key: dict[str, str]) -> float:
    """Return in how many seconds one of a key's open jobs may have ended, at the rate of the one that is furthest."""
    found = connection.execute(_PROGRESS, key).all()
    # PostgreSQL adds bigints up to a decimal.
    left = [(job.now - job.started_at) / 1000 * float((job.size - job.done) / job.done) for job in found if job.done]
    if not left and connection.execute(_ANY_HUGE, key).first() is not None:
        return _LATE
    return min(max(min(left, default=_SOON), 1.0), _LATE)


# Statements, put together once. That a key is not empty is said again, so that SQLite takes the index of owned jobs.

_OWNED = (JobRow.key_id == bindparam("key"), JobRow.key_id != literal_column("''"), JobRow.deleted_at.is_(None))
_BEGUN: Any = (*_OWNED, JOB_IS_UNFINISHED, JobRow.kind != literal_column("'call'"), JobRow.started_at.is_not(None))
_FIRST = (
    select(JobRow.id, JobRow.started_at)
    .where(*_BEGUN, JobRow.chunk_count <= _HUGE)
    .order_by(JobRow.started_at)
    .limit(_LOOKED_AT)
    .subquery()
)
_PROGRESS = (
    select(
        _FIRST.c.started_at,
        now_ms().label("now"),
        func.sum(ChunkRow.size).label("size"),
        func.sum(ChunkRow.succeeded + ChunkRow.failed).label("done"),
    )
    .join(ChunkRow, ChunkRow.job_id == _FIRST.c.id)
    .where(ChunkRow.state != ChunkState.SPLIT)
    .group_by(_FIRST.c.id, _FIRST.c.started_at)
)
_ANY_HUGE = select(JobRow.id).where(*_BEGUN, JobRow.chunk_count > _HUGE).limit(1)
