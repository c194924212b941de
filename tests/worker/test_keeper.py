"""What the reconciler's housekeeper remembers of his work, and how he shares his time."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import update

from storage import counters, invariants
from storage.contract.errors import QueueUnavailable, StorageUnavailable, UnknownJob
from storage.contract.keeping import Keeping
from storage.database import now_ms
from storage.purges import START
from storage.stores import Stores
from storage.tables import JobRow
from tests.storage.builders import serve, submit
from worker import keeper
from worker.keeper import Keeper
from worker.roundrobin import RoundRobin


def deleted(stores: Stores, *chunks: int) -> list[str]:
    """Return jobs of so many chunks each that are marked as deleted, the first one the longest."""
    serve(stores)
    job_ids = [submit(stores, number) for number in chunks]
    for place, job_id in enumerate(job_ids):
        stores.jobs.cancel(job_id)
        with stores.database.write() as connection:
            connection.execute(update(JobRow).where(JobRow.id == job_id).values(deleted_at=now_ms() + place))
    return job_ids


def test_how_far_a_removal_has_come_is_forgotten_with_its_end(stores: Stores) -> None:
    # Given a deleted job, and one behind it that cannot be removed now
    first, second = deleted(stores, 1, 1)

    def step(job_id: str, after: int) -> int | None:
        if job_id == second:
            raise QueueUnavailable("not now")
        return stores.purges.step(job_id, after)

    removals = RoundRobin(step, "removed")
    # When the first is removed, then nothing is remembered of it
    for _ in range(2):
        with pytest.raises(QueueUnavailable):
            removals.turn(stores.purges.marked(), time.monotonic() + 60)
    assert removals._come == {}
    with pytest.raises(UnknownJob):
        stores.jobs.get(first)


def test_a_huge_job_keeps_no_small_one_from_going(stores: Stores) -> None:
    # Given a large job that was deleted first, and small ones
    huge, *small = deleted(stores, 200, 1, 1)
    stepped: list[str] = []

    def step(job_id: str, after: int) -> int | None:
        stepped.append(job_id)
        return stores.purges.step(job_id, after)

    # When there is time for one step a turn
    removals = RoundRobin(step, "removed")
    while stores.purges.marked() != [huge]:
        removals.turn(stores.purges.marked(), time.monotonic() - 1)
    # Then each had its step in its turn, and the large one goes on where it was
    assert stepped[:3] == [huge, *small]
    assert stepped.count(huge) <= 3
    assert removals._come[huge] > START


def test_one_that_cannot_be_removed_keeps_no_other(stores: Stores) -> None:
    # Given a deleted job whose removal fails at each try, and one behind it
    first, second = deleted(stores, 1, 1)

    def step(job_id: str, after: int) -> int | None:
        if job_id == first:
            raise QueueUnavailable("never")
        return stores.purges.step(job_id, after)

    # When there are turns enough, each cut short by the first, then the other one is gone
    removals = RoundRobin(step, "removed")
    for _ in range(3):
        with pytest.raises(QueueUnavailable):
            removals.turn(stores.purges.marked(), time.monotonic() + 60)
    assert stores.purges.marked() == [first]
    assert second not in removals._come


def test_texts_go_although_a_huge_job_is_being_removed(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a job whose texts are to go with its end, and a large one that was deleted before
    serve(stores)
    ended = submit(stores, 2, keeping=Keeping(None, 0))
    huge = deleted(stores, 200)
    stores.jobs.cancel(ended)
    # When the housekeeper has time for one step of each kind
    monkeypatch.setattr(keeper, "_TURN", -1.0)
    housekeeper = Keeper(stores)
    housekeeper.purge()
    assert stores.purges.marked_texts() == [ended]
    housekeeper.purge()
    # Then the texts are gone, and the large job is not
    assert stores.purges.marked_texts() == []
    assert stores.purges.marked() == huge


def test_a_page_that_takes_too_long_is_passed_over_and_counted(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given more chunks than a page has, the first page of which takes longer than a statement may
    serve(stores)
    job_id = submit(stores, 501)
    pages: list[invariants.Place] = []
    of_chunks = invariants._of_chunks

    def slow(after: invariants.Place, last: invariants.Place) -> Any:
        pages.append(after)
        if after == invariants.START:
            raise StorageUnavailable("canceling statement due to statement timeout")
        return of_chunks(after, last)

    monkeypatch.setattr(invariants, "_of_chunks", slow)
    counters.take()
    # When the housekeeper looks page after page
    housekeeper = Keeper(stores)
    for _ in range(3):
        housekeeper.check()
    # Then the next page has its turn, and after the last one the first again
    assert pages == [invariants.START, (job_id, 499), invariants.START]
    assert counters.take()["sweeps_failed"] == 2
