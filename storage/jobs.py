"""The store of jobs: create, seal, look up, cancel, retry, delete, finish."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from storage import counters
from storage.arrivals import counts
from storage.chunks import NewChunk, mark_next, packed, write_chunks
from storage.contract import failpoints
from storage.contract.errors import EmbedmillError, ServerError, UnknownJob, WrongState
from storage.contract.messages import Pointer
from storage.contract.states import JobState
from storage.database import Database
from storage.ends import ended
from storage.faults import retried
from storage.finishing import IS_WHOLE, finish_settled, has_open_chunks
from storage.jobfilter import JobFilter
from storage.jobmatching import matches
from storage.jobrecords import RECORD_OF, RECORDS, JobRecord, record_of
from storage.newjobs import NewJob, open_job
from storage.nextends import end_told
from storage.quotas import admit
from storage.retries import RetryStore
from storage.sealing import seal
from storage.settling import Ending, SettlingStore, end
from storage.statementtime import statement_ms
from storage.tables import JOB_IS_LISTED, JOB_IS_OPEN, JOB_IS_UNFINISHED, JobRow
from storage.workers import bind_to_known_model

logger = logging.getLogger(__name__)

#: Jobs whose time is over that are ended in one go.
_EXPIRED_AT_ONCE = 256


class JobStore:
    """Every read and write of jobs."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._settling = SettlingStore(database)
        self._retries = RetryStore(database)

    def create(self, job: NewJob) -> bool:
        """Open a job that takes texts; nobody sees it before it is sealed.

        Returns:
            False when there is a job of that id already; where another transaction is about to make one, the answer
            waits for its end.

        Raises:
            QuotaExceeded: When its key may have no other now.
        """
        try:
            with end_told(self._db), self._db.write() as connection:
                open_job(connection, job)
                admit(connection, job.id, job.key_id, sealed=False)
        except IntegrityError:
            return False
        return True

    def accept(
        self,
        job: NewJob,
        chunks: Sequence[NewChunk],
        payload_hash: str | None = None,
        key: str | None = None,
        marking: bool = False,
    ) -> list[Pointer] | None:
        """Open a job, write all its chunks and seal it, in one transaction; see `seal`.

        Args:
            job: What it is submitted with.
            chunks: All there are.
            payload_hash: As for `seal`.
            key: Its idempotency key.
            marking: Whether what its queue's window has room for is marked as sent at the same time, which saves
                whoever waits for a few texts a transaction.

        What is marked is not waited for until it is on the disk, so that it is sent the sooner: nobody may be told the
        job's id before `Database.settle`.

        Returns:
            What was marked, best first, for the caller to send; None when the idempotency key, or the id, has been
            used meanwhile by another job.

        Raises:
            QuotaExceeded: When it is more than its key may have; nothing was accepted.
        """
        marked: list[Pointer] = []
        rows = packed(job.id, chunks)
        total = sum(len(chunk.texts) for chunk in chunks)
        sealed = {"state": JobState.QUEUED, "total": total, "chunk_count": len(chunks)}
        sealed |= {"payload_hash": payload_hash, "idempotency_key": key, **counts(rows[0])}
        try:
            with end_told(self._db), self._db.write(durable=not marking) as connection:
                open_job(connection, job, **sealed)
                write_chunks(connection, rows)
                if job.model_id is None:
                    bind_to_known_model(connection, job.id)
                elif marking:
                    marked = mark_next(connection, job.model_id, job.priority)
                admit(connection, job.id, job.key_id, sealed=True)
                failpoints.reach("submit.sealing")
        except IntegrityError:
            return None
        failpoints.reach("submit.sealed")
        return marked

    def seal(
        self, job_id: str, total: int, chunks: int, payload_hash: str | None = None, idempotency_key: str | None = None
    ) -> bool:
        """Accept the job: from here on every text of it is safe and will reach an outcome.

        Returns:
            False when the idempotency key has been used meanwhile by another job; this one is then still open.

        Raises:
            WrongState: When the job is no longer being submitted.
            QuotaExceeded: When it is more than its key may have; it is then still open.
        """
        try:
            with end_told(self._db), self._db.write() as connection:
                seal(connection, job_id, total, chunks, payload_hash=payload_hash, idempotency_key=idempotency_key)
        except IntegrityError:
            return False
        failpoints.reach("submit.sealed")
        return True

    def get(self, job_id: str) -> JobRecord:
        """Return a job.

        Raises:
            UnknownJob: When there is none of that id.
        """
        with self._db.read() as connection:
            row = connection.execute(RECORD_OF, {"job": job_id}).first()
        if row is None:
            raise UnknownJob(job_id)
        return record_of(row)

    def find_by_key(self, idempotency_key: str, key_id: str = "") -> JobRecord | None:
        """Return the job that was submitted with an idempotency key, which is one owner's alone, or None."""
        same = (JobRow.idempotency_key == idempotency_key, JobRow.key_id == key_id)
        with self._db.read() as connection:
            row = connection.execute(RECORDS.where(*same)).first()
        return None if row is None else record_of(row)

    def list_ids(
        self,
        limit: int = 20,
        before: str | None = None,
        wanted: JobFilter | None = None,
        key_id: str | None = None,
    ) -> list[str]:
        """Return the ids of jobs of the kind `job`, newest first.

        Args:
            limit: At most so many.
            before: Only jobs made before the one of this id.
            wanted: Only these; None: all that are sealed.
            key_id: Only jobs of one owner; None: of all.
        """
        found = select(JobRow.id).where(JOB_IS_LISTED)
        found = found.where(*matches(wanted or JobFilter()))
        if before is not None:
            found = found.where(JobRow.id < before)
        if key_id is not None:
            found = found.where(JobRow.key_id == key_id)
        with self._db.read() as connection:
            return list(connection.execute(found.order_by(JobRow.id.desc()).limit(limit)).scalars())

    def ended(self, job_ids: Sequence[str]) -> list[str]:
        """Return those of some jobs that have ended, or are gone."""
        still = select(JobRow.id).where(JobRow.id.in_(job_ids), JOB_IS_UNFINISHED, JobRow.deleted_at.is_(None))
        with self._db.read() as connection:
            unfinished = set(connection.execute(still).scalars())
        return [job_id for job_id in job_ids if job_id not in unfinished]

    @retried
    def cancel(self, job_id: str) -> bool:
        """Cancel a job: what has no outcome yet is cancelled at once; vectors and errors that are there stay.

        Returns:
            Whether anything changed; False when it was cancelled before.

        Raises:
            UnknownJob: When there is none of that id.
            WrongState: When it has ended otherwise, or is still being submitted.
        """
        if self._end(job_id, ended(JobState.CANCELLED)):
            return True
        record = self.get(job_id)
        if record.state == JobState.CANCELLED:
            return False
        raise WrongState(f"Job {job_id} is {record.state} and cannot be cancelled.")

    @retried
    def fail(self, job_id: str, error: EmbedmillError) -> None:
        """End a job that cannot be done as a whole; its `error` says why."""
        self._end(job_id, ended(JobState.FAILED, error={"code": error.code, "message": str(error)}))

    def _end(self, job_id: str, values: dict[str, Any]) -> bool:
        """End a job that is open, and go on with that for a while where it has very many chunks."""
        with self._db.write() as connection:
            ending = end(connection, job_id, values)
        if ending is Ending.BEGUN:
            self._settling.go_on(job_id)
        return ending is not Ending.REFUSED

    def retry_failed(self, job_id: str) -> int:
        """Send the failed items of a completed job round again; vectors stay, invalid items stay invalid.

        Returns:
            How many items are tried again; 0 leaves the job as it was.

        Raises:
            UnknownJob: When there is none of that id.
            WrongState: When the job is not completed, or its texts are gone.
            QuotaExceeded: When its key may have no other open job, or submit no more tokens now.
        """
        return self._retries.retry(job_id)

    @retried
    def expire(self, done: Callable[[], object] = lambda: None) -> list[str]:
        """End open jobs whose time is over: what has no outcome yet is cancelled; return their ids.

        Args:
            done: Called after each.
        """
        over = (
            JobRow.expires_at.is_not(None),
            JobRow.expires_at <= statement_ms(),
            JobRow.finished_at.is_(None),
            JOB_IS_OPEN,
        )
        with self._db.read() as connection:
            overdue = list(connection.execute(select(JobRow.id).where(*over).limit(_EXPIRED_AT_ONCE)).scalars())
        expired = []
        for job_id in overdue:
            try:
                # What is left of a large one is settled in turns, which keep no other from its end.
                with self._db.write() as connection:
                    if end(connection, job_id, ended(JobState.EXPIRED), *over) is not Ending.REFUSED:
                        expired.append(job_id)
            except ServerError as error:
                logger.warning("job %s could not be ended: %s", job_id, error)
            done()
        counters.count("jobs_expired", len(expired))
        return expired

    @retried
    def finish_all(self) -> list[str]:
        """Finish running jobs none of whose chunks is open; a backstop for the commit that should have done so."""
        running = select(JobRow.id).where(JobRow.state == JobState.RUNNING, JOB_IS_OPEN, IS_WHOLE)
        with self._db.read() as connection:
            settled = list(connection.execute(running.where(~has_open_chunks())).scalars())
        if not settled:
            return []
        with self._db.write() as connection:
            return finish_settled(connection, settled)
