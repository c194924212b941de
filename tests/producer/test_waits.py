"""Waiting for a job costs little, however many chunks it has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from producer import job as module
from producer.job import Job
from producer.pace import pause
from storage.contract.errors import WaitTimeout
from storage.database import Database
from storage.hints import Listener
from storage.jobstatus import JobStatus
from storage.stores import Stores
from tests.faults.rivals import client_of
from tests.storage.builders import MODEL, finish, serve, submit


@pytest.fixture
def job(stores: Stores, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    """A job of two chunks that goes on by one of them whenever somebody waits for it."""
    worker = serve(stores)
    job_id = submit(stores, 2)
    done: list[int] = []

    def wait(self: Listener, waited_for: str, seconds: float) -> bool:
        if len(done) < 6:
            done.append(1)
        if len(done) == 6:
            finish(stores, job_id, 2, worker)
            done.append(1)
        return False

    monkeypatch.setattr(Listener, "wait", wait)
    client = client_of(database_url, str(tmp_path), MODEL)
    yield client.job(job_id)
    client.close()


def test_a_look_takes_a_twentieth_of_the_time_at_most() -> None:
    assert pause(0.0, 0.25) == 0.25
    assert pause(5.0, 0.25) == pytest.approx(60.0)
    assert pause(1.0, 0.25) == pytest.approx(19.0)
    # But where a look has waited for a database that was away, the next one is not put off for hours
    assert pause(3600.0, 0.25) == 60.0


def test_whoever_waits_without_hearing_of_progress_has_no_chunk_counted_before_the_end(job: Job) -> None:
    asked = _listened(job)
    status = job.wait(60)
    assert (status.state, status.succeeded) == ("completed", 4)
    assert len([told for told in asked if "sum(chunks.size)" in told]) <= 1


def test_progress_of_a_job_that_is_dear_to_count_comes_seldom_and_its_end_at_once(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job of which each look is so dear that the next one is due in an hour
    monkeypatch.setattr(module, "pause", lambda cost, least: 3600.0)
    seen: list[JobStatus] = []
    # When somebody waits for it
    status = job.wait(60, seen.append)
    # Then he is told of its beginning and its end
    assert [one.state for one in seen] == ["queued", "completed"] and seen[-1] == status


def test_a_wait_without_time_tells_how_far_the_job_is(job: Job) -> None:
    with pytest.raises(WaitTimeout, match="still queued: 4 of 4 items pending"):
        job.wait(0)


def test_results_of_a_running_job_are_read_without_counting_it(job: Job) -> None:
    asked = _listened(job)
    assert [outcome.position for outcome in job.results()] == [0, 1, 2, 3]
    assert not [told for told in asked if "sum(chunks" in told]


def _listened(job: Job) -> list[str]:
    """Return a list that each statement which is asked for the job comes into."""
    asked: list[str] = []
    database: Database = job._stores.database
    event.listen(database.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    return asked
