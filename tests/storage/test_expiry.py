"""Jobs whose time runs out."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from storage.contract.errors import InvalidOption
from storage.contract.models import Priority
from storage.contract.states import JobState
from storage.database import Database, now_ms
from storage.newjobs import NewJob
from storage.stores import Stores
from storage.tables import JobRow
from tests.storage.builders import CARD, chunk_states, claim, finish, result, serve, submit


def end_time(database: Database, job_id: str, milliseconds: int) -> None:
    with database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(expires_at=now_ms() + milliseconds))


def test_a_job_whose_time_is_over_keeps_what_is_done_and_cancels_the_rest(stores: Stores, database: Database) -> None:
    # Given a job of three chunks: one done, one at work, one waiting
    worker = serve(stores)
    job_id = submit(stores, 3)
    stores.leases.commit([(one, result()) for one in claim(stores, job_id, 0, worker)])
    late = claim(stores, job_id, 1, worker)
    # When its time is over
    end_time(database, job_id, -1)
    assert stores.jobs.expire() == [job_id]
    # Then it has ended, every item has an outcome, and a late result changes nothing
    status = stores.statuses.get(job_id)
    assert (status.state, status.succeeded, status.cancelled, status.pending) == ("expired", 2, 4, 0)
    assert stores.leases.commit([(one, result()) for one in late]) == (set(), [])
    assert chunk_states(database, job_id) == ["done", "cancelled", "cancelled"]
    assert stores.jobs.expire() == []


def test_work_on_a_job_stops_at_its_time_even_before_the_reconciler_looks(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores, 2)
    end_time(database, job_id, -1)
    assert claim(stores, job_id, 0, worker) == []
    assert stores.chunks.dispatch(CARD.id, Priority.BULK) == []


def test_a_job_with_time_left_is_left_alone(stores: Stores, database: Database) -> None:
    serve(stores)
    job_id, endless = submit(stores), submit(stores)
    end_time(database, job_id, 60_000)
    assert stores.jobs.expire() == []
    assert {stores.jobs.get(one).state for one in (job_id, endless)} == {JobState.QUEUED}


def test_a_job_that_has_ended_does_not_expire(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores)
    finish(stores, job_id, 1, worker)
    end_time(database, job_id, -1)
    assert stores.jobs.expire() == []
    assert stores.jobs.get(job_id).state == JobState.COMPLETED


def test_a_retry_has_all_the_time_in_the_world(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores)
    finish(stores, job_id, 1, worker, failed=[0])
    end_time(database, job_id, -1)
    assert stores.jobs.retry_failed(job_id) == 1
    assert stores.jobs.expire() == []


def test_the_time_of_a_job_begins_with_its_acceptance(stores: Stores, database: Database) -> None:
    # Given a submission that has taken a minute, of a job that may take an hour
    serve(stores)
    job_id = "01a20481-f5f5-79cc-a2c3-a57465f57431"
    stores.jobs.create(NewJob(job_id, CARD.name, None, CARD.id, {}, expires_in=3600))
    with database.write() as connection:
        earlier = {"created_at": JobRow.created_at - 60_000, "expires_at": JobRow.expires_at - 60_000}
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(earlier))
    # When it is sealed
    stores.jobs.seal(job_id, 0, 0)
    # Then it has an hour, and not that minute less; PostgreSQL's clock may go on within a statement
    with database.read() as connection:
        left = select(JobRow.expires_at - JobRow.created_at).where(JobRow.id == job_id)
        assert connection.execute(left).scalar() == pytest.approx(3_600_000, abs=50_000)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(stores: Stores, seconds: float) -> None:
    from producer.submission import Submission
    from storage.contract.options import JobOptions

    with pytest.raises(InvalidOption, match="expires_in"):
        Submission(stores, model="a", revision=None, card=None, options=JobOptions(), expires_in=seconds)
