"""The jobs that a batch's lines became, brought to their end: what came of them lies in the batch's files."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from storage.batchrecords import Batch, Group
from storage.contract.errors import UnknownJob, WrongState
from storage.stores import Stores


def job_key(batch_id: str, group: int) -> str:
    """Return the idempotency key under which a group of a batch becomes a job."""
    return f"{batch_id}:{group}"


def cancel_job(stores: Stores, job_id: str) -> None:
    """Cancel a job, unless it has ended or is gone."""
    with suppress(WrongState, UnknownJob):
        stores.jobs.cancel(job_id)


def remove_job(stores: Stores, job_id: str) -> None:
    """Delete a job, whatever it is at; one that is gone is gone."""
    cancel_job(stores, job_id)
    with suppress(UnknownJob):
        stores.purges.delete(job_id)


def remove_unnoted_job(stores: Stores, batch: Batch, group: int) -> None:
    """Delete the job that has the idempotency key of a group, whether it was noted or not; one of a caller's stays."""
    job = stores.jobs.find_by_key(job_key(batch.id, group), batch.key_id)
    if job is not None and job.kind == "batch":
        remove_job(stores, job.id)


def remove_jobs(stores: Stores, batch: Batch, groups: Iterable[Group]) -> None:
    """Delete the jobs of some groups of a batch."""
    for group in groups:
        if group.job_id is not None:
            remove_job(stores, group.job_id)
        else:
            # Whoever made it may have been cut off before noting it, or before noting again what was noted once.
            remove_unnoted_job(stores, batch, group.number)
