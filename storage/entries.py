"""What a list of jobs shows beside where they stand: deadlines, and how many are before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, case, func, literal_column, or_, select
from sqlalchemy.orm import aliased

from storage.contract.errors import UnknownJob
from storage.contract.states import JobState
from storage.database import Database
from storage.tables import JobRow


@dataclass(frozen=True, slots=True)
class Entry:
    """One job in a list.

    Args:
        generation: How often `retry` sent it round again.
        expires_at: When it ends whatever is left to do, in milliseconds since 1970; None: never.
        queue_position: Jobs of the same model that are to be done before it; None unless it is queued.
    """

    generation: int
    expires_at: int | None
    queue_position: int | None


class EntryStore:
    """Every read of what is shown of jobs beside where they stand."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, job_id: str) -> Entry:
        """Return the entry of one job.

        Raises:
            UnknownJob: When there is none of that id.
        """
        found = self.many([job_id])
        if job_id not in found:
            raise UnknownJob(job_id)
        return found[job_id]

    def many(self, job_ids: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of some jobs by their ids, in one query; those that are gone are left out."""
        with self._db.read() as connection:
            rows = connection.execute(_ENTRIES.where(JobRow.id.in_(job_ids))).all()
        return {row.id: Entry(row.generation, row.expires_at, row.before) for row in rows}


_other = aliased(JobRow)
_older = or_(_other.created_at < JobRow.created_at, and_(_other.created_at == JobRow.created_at, _other.id < JobRow.id))
#: Urgent jobs are before bulk ones, older before younger; shares between keys are left out of account.
_before = (
    select(func.count())
    .where(
        _other.state.in_([literal_column("'queued'"), literal_column("'running'")]),
        _other.model_id == JobRow.model_id,
        or_(_other.priority > JobRow.priority, and_(_other.priority == JobRow.priority, _older)),
    )
    .correlate(JobRow)
    .scalar_subquery()
)
_is_waiting = and_(JobRow.state == JobState.QUEUED, JobRow.model_id.is_not(None))
_ENTRIES = select(
    JobRow.id,
    JobRow.generation,
    JobRow.expires_at,
    case((_is_waiting, _before), else_=None).label("before"),
).where(JobRow.deleted_at.is_(None))
