"""The seal: the small transaction from which on a job is accepted."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, update

from storage.contract import failpoints
from storage.contract.errors import WrongState
from storage.contract.states import JobState
from storage.database import now_ms
from storage.quotas import admit
from storage.tables import JobRow
from storage.workers import bind_to_known_model


def seal(connection: Connection, job_id: str, total: int, chunks: int, **more: Any) -> None:
    """Accept a job, inside a running transaction.

    Args:
        connection: A write transaction.
        job_id: The job.
        total: How many items it has.
        chunks: How many chunks.
        **more: Further columns that are only now known.

    Raises:
        WrongState: When the job is no longer being submitted.
        QuotaExceeded: When it is more than its key may have; it is then still open.
    """
    values = {"state": JobState.QUEUED, "total": total, "chunk_count": chunks, "created_at": now_ms(), **more}
    # Its time begins now, however long the submission took.
    values |= {"expires_at": JobRow.expires_at + now_ms() - JobRow.created_at}
    accepting = (JobRow.id == job_id, JobRow.state == JobState.ACCEPTING, JobRow.deleted_at.is_(None))
    key_id = connection.execute(update(JobRow).where(*accepting).values(values).returning(JobRow.key_id)).scalar()
    if key_id is None:
        raise WrongState(f"Job {job_id} takes no more texts.", "Submit again.")
    bind_to_known_model(connection, job_id)
    admit(connection, job_id, key_id, sealed=True)
    failpoints.reach("submit.sealing")
