"""What the reconciler's housekeeper remembers of his work."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import update

from storage.contract.errors import QueueUnavailable, UnknownJob
from storage.database import now_ms
from storage.stores import Stores
from storage.tables import JobRow
from tests.storage.builders import serve, submit
from worker.keeper import Keeper


def test_how_far_a_removal_has_come_is_forgotten_with_its_end(stores: Stores) -> None:
    # Given a deleted job, and one behind it that cannot be removed now
    serve(stores)
    first, second = submit(stores), submit(stores)
    for job_id in (first, second):
        stores.jobs.cancel(job_id)

    def step(job_id: str, after: int) -> int | None:
        if job_id == second:
            raise QueueUnavailable("not now")
        return stores.purges.step(job_id, after)

    housekeeper = Keeper(stores)
    with stores.database.write() as connection:
        connection.execute(update(JobRow).values(deleted_at=now_ms()))
    # When the first is removed, then nothing is remembered of it
    with pytest.raises(QueueUnavailable):
        housekeeper._remove([first, second], step, time.monotonic() + 60)
    assert first not in housekeeper._come
    with pytest.raises(UnknownJob):
        stores.jobs.get(first)
