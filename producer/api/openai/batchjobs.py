"""The jobs that a batch's lines became, brought to their end: what came of them lies in the batch's files."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from storage.batchrecords import Group
from storage.contract.errors import UnknownJob, WrongState
from storage.stores import Stores


def cancel_job(stores: Stores, job_id: str) -> None:
    """Cancel a job, unless it has ended or is gone."""
    with suppress(WrongState, UnknownJob):
        stores.jobs.cancel(job_id)


def remove_job(stores: Stores, job_id: str) -> None:
    """Delete a job, whatever it is at; one that is gone is gone."""
    cancel_job(stores, job_id)
    with suppress(UnknownJob):
        stores.purges.delete(job_id)


def remove_jobs(stores: Stores, groups: Iterable[Group]) -> None:
    """Delete the jobs of some groups of a batch."""
    for group in groups:
        if group.job_id is not None:
            remove_job(stores, group.job_id)
