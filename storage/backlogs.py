"""How much waits for each model: what an autoscaler and an alarm ask, cheaply even where ten million texts wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select, union_all

from storage.contract.models import Priority
from storage.database import Database, now_ms
from storage.tables import CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED, CHUNK_IS_PENDING, JOB_IS_OPEN, ChunkRow, JobRow

#: A model's name and a priority's, in lower case.
Queue = tuple[str, str]


@dataclass(frozen=True, slots=True)
class QueueBacklog:
    """What waits in one queue or is in hand.

    Args:
        tokens: Tokens, estimated from bytes.
        texts: Texts.
        chunks: Chunks.
        oldest: Seconds since the last text was accepted of the oldest job that no worker has begun with; 0 without one.
    """

    tokens: int
    texts: int
    chunks: int
    oldest: float


NOTHING = QueueBacklog(0, 0, 0, 0.0)


class BacklogStore:
    """Every read of backlogs."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def by_queue(self) -> dict[Queue, QueueBacklog]:
        """Return what waits or is in hand, by queue; queues without anything are not named."""
        with self._db.read() as connection:
            ages = {_queue(row): max(0.0, row.age / 1000) for row in connection.execute(_OLDEST)}
            found = connection.execute(_BACKLOG).all()
        # PostgreSQL adds bigints up to a decimal.
        return {
            _queue(row): QueueBacklog(int(row.tokens), int(row.texts), int(row.chunks), ages.get(_queue(row), 0.0))
            for row in found
        }


def _queue(row: Any) -> Queue:
    return row.model, Priority(row.priority).name.lower()


# Added up by job first, along the partial indexes of what is open: the jobs' table is then asked once a job.
_COUNTED = (
    ChunkRow.job_id,
    func.count().label("chunks"),
    func.sum(ChunkRow.size - ChunkRow.succeeded - ChunkRow.failed).label("texts"),
    func.sum(ChunkRow.token_estimate).label("tokens"),
)
_OPEN = union_all(
    select(*_COUNTED).where(CHUNK_IS_PENDING).group_by(ChunkRow.job_id),
    select(*_COUNTED).where(or_(CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED)).group_by(ChunkRow.job_id),
).subquery()
_BACKLOG = (
    select(
        JobRow.model, JobRow.priority, *(func.sum(_OPEN.c[name]).label(name) for name in ("chunks", "texts", "tokens"))
    )
    .join(_OPEN, _OPEN.c.job_id == JobRow.id)
    .where(JOB_IS_OPEN)
    .group_by(JobRow.model, JobRow.priority)
)
_OLDEST = (
    select(JobRow.model, JobRow.priority, (now_ms() - func.min(JobRow.touched_at)).label("age"))
    .where(JOB_IS_OPEN, JobRow.started_at.is_(None))
    .group_by(JobRow.model, JobRow.priority)
)
