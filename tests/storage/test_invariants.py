"""Rows that must not be are found, a page at a time, over both databases."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import delete, update

from storage.database import Database
from storage.invariants import START
from storage.stores import Stores
from storage.tables import InputRow, JobRow, ResultRow
from tests.storage.builders import claim, finish, result, serve, set_chunk, submit


def broken(stores: Stores, page: int = 100) -> Counter[str]:
    """Go once through all pages."""
    found: Counter[str] = Counter()
    place: Any = START
    while place is not None:
        findings = stores.invariants.check(place, page)
        found.update(findings.broken)
        place = findings.next
    return found


def ruin(database: Database, name: str, job_id: str) -> None:
    """Do by hand what the program never does."""
    change: dict[str, Any] = {
        "leased_by_nobody": lambda: set_chunk(database, job_id, 0, state="leased", lease_owner=None),
        "done_and_miscounted": lambda: set_chunk(database, job_id, 0, succeeded=1),
        "open_in_ended_job": lambda: set_chunk(database, job_id, 0, state="pending"),
        "done_without_result": delete(ResultRow).where(ResultRow.job_id == job_id, ResultRow.number == 0),
        "without_texts": delete(InputRow).where(InputRow.job_id == job_id, InputRow.number == 0),
        "result_of_a_later_token": update(ResultRow).where(ResultRow.job_id == job_id).values(token=99),
        "items_missing": update(JobRow).where(JobRow.id == job_id).values(total=7),
    }
    if callable(change[name]):
        change[name]()
        return
    with database.write() as connection:
        connection.execute(change[name])


def test_nothing_is_found_in_the_middle_of_ordinary_work(stores: Stores) -> None:
    # Given jobs in every state, among them a split one and one on its way round again
    worker = serve(stores)
    done, running, cancelled, again, split, queued = (submit(stores, 3) for _ in range(6))
    finish(stores, done, 3, worker)
    stores.leases.commit([(one, result()) for one in claim(stores, running, 0, worker)])
    claim(stores, running, 1, worker)
    stores.jobs.cancel(cancelled)
    finish(stores, again, 3, worker, failed=[0])
    stores.jobs.retry_failed(again)
    for _ in range(2):
        claim(stores, split, 0, worker)
        stores.leases.release_worker(worker, died=True)
    # Then every invariant holds, on pages of any size
    assert broken(stores) == broken(stores, page=2) == broken(stores, page=1) == {}
    assert stores.jobs.get(queued).total == 6


@pytest.mark.parametrize(
    "name",
    [
        "leased_by_nobody",
        "done_and_miscounted",
        "open_in_ended_job",
        "done_without_result",
        "without_texts",
        "result_of_a_later_token",
        "items_missing",
    ],
)
def test_a_row_that_must_not_be_is_found_on_whatever_page(stores: Stores, database: Database, name: str) -> None:
    worker = serve(stores)
    jobs = [submit(stores) for _ in range(5)]
    for job_id in jobs:
        finish(stores, job_id, 1, worker)
    ruin(database, name, jobs[3])
    assert broken(stores)[name] == broken(stores, page=2)[name] == 1


def test_a_huge_job_is_not_added_up(stores: Stores, database: Database) -> None:
    # Given a job of which an item is missing, and that has more chunks than are added up in one go
    serve(stores)
    job_id = submit(stores)
    ruin(database, "items_missing", job_id)
    assert broken(stores) == {"items_missing": 1}
    with database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(chunk_count=10_001))
    # Then that is looked for in other jobs alone, and its chunks are looked at one by one all the same
    assert broken(stores) == {}
    set_chunk(database, job_id, 0, state="leased", lease_owner=None)
    assert broken(stores) == {"leased_by_nobody": 1}
