"""The store of what goes: jobs deleted by their owner, submissions nobody finished, jobs and texts kept long enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, select, update

from storage import counters, settling
from storage.contract.errors import UnknownJob, WrongState
from storage.contract.states import FINAL_JOB_STATES, JobState
from storage.database import Database, now_ms
from storage.faults import retried
from storage.parttables import PartedJobRow, PartRow
from storage.statementtime import statement_ms
from storage.tables import JOB_IS_CALL, JOB_IS_UNFINISHED, ChunkRow, InputRow, JobRow, ResultRow

#: Chunks, and items in them, of which rows are removed in one transaction, so that others need not wait long: with
#: vectors of 1,024 numbers some 8 MB.
_CHUNKS, _ITEMS = 64, 2_048

#: Chunks of a job that go while whoever deletes it waits: what is behind them, the reconciler removes.
_AT_ONCE = 200

#: Jobs marked in one transaction.
MARKED_AT_ONCE = 256

#: Where the first step of a removal begins.
START = -1

#: Milliseconds after which the job of an ended call goes that whoever answered it did not delete.
_FORGOTTEN_CALL = 300_000


class PurgeStore:
    """Every removal of rows; a job is marked first, and unknown from then on, then removed in small steps."""

    def __init__(self, database: Database) -> None:
        self._db = database
        #: Submissions that were given up and could not be removed yet.
        self._given_up: set[str] = set()

    def delete(self, job_id: str) -> None:
        """Delete a job with its texts and results; it is unknown from here on, and its rows go in small steps.

        Of a large one the first rows alone go here: the reconciler removes the rest.

        Raises:
            UnknownJob: When there is none of that id.
            WrongState: When it is still at work.
        """
        with self._db.write() as connection:
            # Guarded: a retry may come between a look and the mark.
            ended = (JobRow.id == job_id, JobRow.state.in_(list(FINAL_JOB_STATES)), JobRow.deleted_at.is_(None))
            marked = connection.execute(update(JobRow).where(*ended).values(_GOING)).rowcount
            found = connection.execute(select(JobRow.state, JobRow.deleted_at).where(JobRow.id == job_id)).first()
        if not marked and (found is None or found.deleted_at is not None):
            raise UnknownJob(job_id)
        if not marked and found is not None:
            raise WrongState(f"Job {job_id} is {found.state}.", f"Cancel it first: embedmill cancel {job_id}")
        self._begin(job_id)

    def discard(self, job_id: str) -> bool:
        """Delete a job that was never sealed, as `delete` does; return whether it was one: others are left alone."""
        with self._db.write() as connection:
            accepting = (JobRow.id == job_id, JobRow.state == JobState.ACCEPTING)
            unsealed = connection.execute(update(JobRow).where(*accepting).values(_GOING)).rowcount == 1
        if unsealed:
            self._begin(job_id)
        return unsealed

    def give_up(self, job_id: str) -> None:
        """Delete a job that its producer gives up; where that cannot be done now, the next submission does it.

        Else its texts would count among those that its key keeps until nobody has heard of its producer for a day.

        Raises:
            StorageUnavailable: When the database cannot be reached; it is then tried again.
            StorageFull: When not even this finds room; the same.
        """
        self._given_up.add(job_id)
        self.discard_given_up()

    def discard_given_up(self) -> None:
        """Delete what was given up and could not be deleted then.

        Raises:
            StorageUnavailable: As for `give_up`.
            StorageFull: The same.
        """
        for job_id in list(self._given_up):
            self.discard(job_id)
            self._given_up.discard(job_id)

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
    def mark(self, abandoned_after: int) -> int:
        """Mark jobs that should go, and jobs whose texts should; return how many.

        Args:
            abandoned_after: Milliseconds without a sign of its producer after which an unsealed job goes.
        """
        is_call = (JobRow.finished_at.is_not(None), JobRow.finished_at < statement_ms() - _FORGOTTEN_CALL)
        abandoned = JobRow.touched_at < statement_ms() - abandoned_after
        marked = self._mark(_GOING, JOB_IS_UNFINISHED, JobRow.state == JobState.ACCEPTING, abandoned)
        marked += self._mark(_GOING, JOB_IS_CALL, *is_call)
        over = (JobRow.kept_until.is_not(None), JobRow.kept_until <= statement_ms())
        marked += self._mark(_GOING, *over, first=JobRow.kept_until)
        over = (JobRow.texts_until.is_not(None), JobRow.texts_until <= statement_ms())
        texts_over = (*over, JobRow.texts_gone_at.is_(None))
        return marked + self._mark({"texts_gone_at": now_ms()}, *texts_over, first=JobRow.texts_until)

    def _mark(self, values: dict[str, Any], *conditions: ColumnElement[bool], first: Any = None) -> int:
        conditions = (*conditions, JobRow.deleted_at.is_(None))
        with self._db.read() as connection:
            some = select(JobRow.id).where(*conditions).order_by(first).limit(MARKED_AT_ONCE)
            ids = list(connection.execute(some).scalars())
        if not ids:
            return 0
        with self._db.write() as connection:
            # Asked again: a job may have been sealed or sent round again meanwhile.
            return connection.execute(update(JobRow).where(JobRow.id.in_(ids), *conditions).values(values)).rowcount

    def ended(self, days: float, after: str = "00000000-0000-0000-0000-000000000000") -> list[str]:
        """Return some jobs of the kind `job` that ended more than so many days ago, in the order of their ids.

        Args:
            days: How many; parts of days too.
            after: Only jobs whose ids come behind this one.
        """
        over = (JobRow.finished_at.is_not(None), JobRow.finished_at <= statement_ms() - int(days * 86_400_000))
        which = (JobRow.id > after, JobRow.kind == "job", JobRow.deleted_at.is_(None))
        return self._some(select(JobRow.id).where(*over, *which).order_by(JobRow.id))

    def marked(self) -> list[str]:
        """Return jobs that are marked and not removed yet."""
        gone = select(JobRow.id).where(JobRow.deleted_at.is_not(None)).order_by(JobRow.deleted_at)
        return self._some(gone)

    def marked_texts(self) -> list[str]:
        """Return jobs whose texts are marked and not removed yet."""
        # Said so, those whose texts stay for a while yet are not looked through every second.
        due = JobRow.texts_until <= statement_ms()
        return self._some(select(JobRow.id).where(*_TEXTS_GO, due).order_by(JobRow.texts_until))

    def _some(self, jobs: Select[Any]) -> list[str]:
        with self._db.read() as connection:
            return list(connection.execute(jobs.limit(MARKED_AT_ONCE)).scalars())

    def _begin(self, job_id: str) -> None:
        """Remove the first rows of a marked job, of a small one all."""
        before, after = None, self.step(job_id)
        # A step that goes no further has settled some of a huge job: the reconciler does that too.
        while after is not None and after < _AT_ONCE and after != before:
            before, after = after, self.step(job_id, after)

    def purge(self, job_id: str) -> None:
        """Remove the rows of a marked job; can be taken up again where it was cut off."""
        after: int | None = START
        while after is not None:
            after = self.step(job_id, after)

    @retried
    def step(self, job_id: str, after: int = START) -> int | None:
        """Remove a few rows of a marked job.

        Args:
            job_id: The job.
            after: What the step before has returned: the rows before are gone, and not looked at again.

        Returns:
            Where the next step goes on; None when the job is gone.
        """
        with self._db.write() as connection:
            marked = select(JobRow.id).where(JobRow.id == job_id, JobRow.deleted_at.is_not(None))
            if connection.execute(marked).first() is None:
                return None
            if settling.step(connection, job_id):
                # First what its key gets back for what nobody has begun with.
                return after
            numbers = _next_chunks(connection, job_id, after)
            for row in (ResultRow, InputRow, ChunkRow):
                connection.execute(delete(row).where(row.job_id == job_id, row.number.in_(numbers)))
            if not numbers:
                connection.execute(delete(PartRow).where(PartRow.job_id == job_id))
                connection.execute(delete(PartedJobRow).where(PartedJobRow.job_id == job_id))
                # What came before the place at which somebody else had begun.
                rest = select(ChunkRow.number).where(ChunkRow.job_id == job_id).limit(1)
                if after != START and connection.execute(rest).first() is not None:
                    return START
                connection.execute(delete(JobRow).where(JobRow.id == job_id))
        counters.count("jobs_purged", int(not numbers))
        return numbers[-1] if numbers else None

    @retried
    def step_texts(self, job_id: str, after: int = START) -> int | None:
        """Remove some texts of a job whose texts are marked; ids, errors and vectors stay.

        Args:
            job_id: The job.
            after: As for `step`.

        Returns:
            Where the next step goes on; None when all are gone.
        """
        with self._db.write() as connection:
            marked = select(JobRow.id).where(JobRow.id == job_id, *_TEXTS_GO).with_for_update()
            if connection.execute(marked).first() is None:
                return None
            numbers = _next_chunks(connection, job_id, after)
            emptied = update(InputRow).where(InputRow.job_id == job_id, InputRow.number.in_(numbers))
            connection.execute(emptied.where(InputRow.texts != b"").values(texts=b""))
            if not numbers:
                connection.execute(update(JobRow).where(JobRow.id == job_id).values(texts_until=None))
        counters.count("texts_purged", int(not numbers))
        return numbers[-1] if numbers else None


def _next_chunks(connection: Connection, job_id: str, after: int) -> list[int]:
    """Return the numbers of a few chunks that follow one: at least one where there is any."""
    following = select(ChunkRow.number, ChunkRow.size).where(ChunkRow.job_id == job_id, ChunkRow.number > after)
    numbers: list[int] = []
    items = 0
    for row in connection.execute(following.order_by(ChunkRow.number).limit(_CHUNKS)):
        items += row.size
        if numbers and items > _ITEMS:
            break
        numbers.append(int(row.number))
    return numbers


#: What the mark changes: the key under which a job was submitted may be used again at once.
_GOING: dict[str, Any] = {"deleted_at": now_ms(), "idempotency_key": None}

#: Whether a job's texts are marked and not all removed.
_TEXTS_GO = (JobRow.texts_until.is_not(None), JobRow.texts_gone_at.is_not(None), JobRow.deleted_at.is_(None))
