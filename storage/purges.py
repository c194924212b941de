"""The store of what goes: jobs deleted by their owner, submissions nobody finished, jobs kept long enough."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, select, update

from storage import counters
from storage.contract.errors import UnknownJob, WrongState
from storage.contract.states import FINAL_JOB_STATES, JobState
from storage.database import Database, now_ms
from storage.faults import retried
from storage.parttables import PartedJobRow, PartRow
from storage.tables import ChunkRow, InputRow, JobRow, ResultRow

#: Chunks deleted in one transaction, so that others need not wait long.
_STEP = 64

#: Jobs marked in one transaction.
MARKED_AT_ONCE = 256

#: Milliseconds after which the job of an ended call goes that whoever answered it did not delete.
_FORGOTTEN_CALL = 300_000


class PurgeStore:
    """Every removal of rows; a job is marked first, and unknown from then on, then removed in small steps."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def delete(self, job_id: str) -> None:
        """Delete a job with its texts and results, in small steps; it is unknown from the first one on.

        Raises:
            UnknownJob: When there is none of that id.
            WrongState: When it is still at work.
        """
        with self._db.write() as connection:
            # Guarded: a retry may come between a look and the mark.
            ended = (JobRow.id == job_id, JobRow.state.in_(list(FINAL_JOB_STATES)), JobRow.deleted_at.is_(None))
            values = {"deleted_at": now_ms(), "idempotency_key": None}
            marked = connection.execute(update(JobRow).where(*ended).values(values)).rowcount
            found = connection.execute(select(JobRow.state, JobRow.deleted_at).where(JobRow.id == job_id)).first()
        if not marked and (found is None or found.deleted_at is not None):
            raise UnknownJob(job_id)
        if not marked and found is not None:
            raise WrongState(f"Job {job_id} is {found.state}.", f"Cancel it first: embedmill cancel {job_id}")
        self.purge(job_id)

    def discard(self, job_id: str) -> bool:
        """Delete a job that was never sealed; return whether it was one: a sealed one is left alone."""
        with self._db.write() as connection:
            accepting = (JobRow.id == job_id, JobRow.state == JobState.ACCEPTING)
            unsealed = connection.execute(update(JobRow).where(*accepting).values(deleted_at=now_ms())).rowcount == 1
        if unsealed:
            self.purge(job_id)
        return unsealed

    @retried
    def drop_calls(self, job_ids: Sequence[str]) -> int:
        """Delete the jobs of some calls in one transaction, whatever they are at; return how many were there.

        Args:
            job_ids: Some jobs; those that are of another kind stay.
        """
        with self._db.write(durable=False) as connection:
            calls = select(JobRow.id).where(JobRow.id.in_(job_ids), JobRow.kind == "call")
            found = list(connection.execute(calls).scalars())
            # Chunks first: a commit under way has them locked, and brings no result once they are gone.
            for row in (ChunkRow, ResultRow, InputRow):
                connection.execute(delete(row).where(row.job_id.in_(found)))
            connection.execute(delete(JobRow).where(JobRow.id.in_(found)))
        return len(found)

    @retried
    def mark(self, abandoned_after: int, keep: int | None) -> int:
        """Mark jobs that should go; return how many.

        Args:
            abandoned_after: Milliseconds without a sign of its producer after which an unsealed job goes.
            keep: Milliseconds that an ended job is kept, or None to keep it until it is deleted.
        """
        doomed: list[tuple[ColumnElement[bool], ...]] = [
            (JobRow.state == JobState.ACCEPTING, JobRow.touched_at < now_ms() - abandoned_after),
            (JobRow.finished_at.is_not(None), JobRow.finished_at < now_ms() - _FORGOTTEN_CALL, JobRow.kind == "call"),
        ]
        if keep is not None:
            # The jobs of a batch go when its output is written, and not before.
            kept_long = (JobRow.finished_at.is_not(None), JobRow.finished_at < now_ms() - keep, JobRow.kind != "batch")
            doomed.append(kept_long)
        marked = 0
        for conditions in doomed:
            with self._db.read() as connection:
                some = select(JobRow.id).where(*conditions, JobRow.deleted_at.is_(None)).limit(MARKED_AT_ONCE)
                ids = list(connection.execute(some).scalars())
            if ids:
                with self._db.write() as connection:
                    # Asked again: a job may have been sealed or sent round again meanwhile.
                    going = update(JobRow).where(JobRow.id.in_(ids), *conditions, JobRow.deleted_at.is_(None))
                    marked += connection.execute(going.values(deleted_at=now_ms(), idempotency_key=None)).rowcount
        return marked

    def marked(self) -> list[str]:
        """Return jobs that are marked and not removed yet."""
        with self._db.read() as connection:
            gone = select(JobRow.id).where(JobRow.deleted_at.is_not(None))
            some = gone.order_by(JobRow.deleted_at).limit(MARKED_AT_ONCE)
            return list(connection.execute(some).scalars())

    def purge(self, job_id: str) -> None:
        """Remove the rows of a marked job; can be taken up again where it was cut off."""
        while not self.step(job_id):
            pass

    @retried
    def step(self, job_id: str) -> bool:
        """Remove a few rows of a marked job; return whether it is gone."""
        with self._db.write() as connection:
            marked = select(JobRow.id).where(JobRow.id == job_id, JobRow.deleted_at.is_not(None))
            if connection.execute(marked).first() is None:
                return True
            some = select(ChunkRow.number).where(ChunkRow.job_id == job_id).limit(_STEP)
            numbers = list(connection.execute(some).scalars())
            for row in (ResultRow, InputRow, ChunkRow):
                connection.execute(delete(row).where(row.job_id == job_id, row.number.in_(numbers)))
            if not numbers:
                connection.execute(delete(PartRow).where(PartRow.job_id == job_id))
                connection.execute(delete(PartedJobRow).where(PartedJobRow.job_id == job_id))
                connection.execute(delete(JobRow).where(JobRow.id == job_id))
        counters.count("jobs_purged", int(not numbers))
        return not numbers
