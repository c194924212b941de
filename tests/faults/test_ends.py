"""Ends of jobs that come while they are worked on: cancelled, expired, deleted, sent round again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import numpy as np
import pytest

from storage.contract.errors import UnknownJob
from tests.faults.bent import bent_mill, keeps_others_out
from tests.faults.forms import FULL, KINDS, full, scenario
from tests.faults.mill import Mill
from tests.faults.oracle import expected_vector

#: How long the encoder takes for one text, in seconds: a chunk of the jobs here takes about a third of a second.
PAUSE_PER_TEXT = 0.02

#: Texts of a job of some forty chunks, which would take a quarter of a minute.
TEXTS, LENGTH = 700, 2_000

#: How often a worker is frozen at most, until it is outside every transaction.
TRIES = 10

MOMENTS = 5 if FULL else 1


@pytest.fixture(params=KINDS, scope="module")
def mill(request: pytest.FixtureRequest) -> Iterator[Mill]:
    # A process that stands still is to wake up, however long the others take: no supervisor may kill it before.
    given = {"FAULTS_PAUSE_PER_TEXT": str(PAUSE_PER_TEXT), "FAULTS_SILENCE": "600"}
    with bent_mill(request.param, supervisors=2, **given) as mill:
        yield mill


def leased(mill: Mill, job_id: str) -> int:
    return int(mill.sql("SELECT count(*) FROM chunks WHERE job_id = ? AND state = 'leased'", job_id)[0][0])


def claims(mill: Mill, job_id: str) -> int:
    return int(mill.sql("SELECT coalesce(sum(claims), 0) FROM chunks WHERE job_id = ?", job_id)[0][0])


def settle(mill: Mill) -> None:
    """Let whatever is being embedded come to its end: others' work is done after it."""
    for _ in range(8):
        mill.submit(1)
    mill.wait_complete()


def check_what_is_kept(mill: Mill, job_id: str, tag: str) -> None:
    """All counts add up, and every vector there is belongs to its text."""
    status = mill.client.job(job_id).status()
    assert status.pending == status.failed == 0 and status.succeeded + status.cancelled == TEXTS
    vectors = mill.client.job(job_id).vectors()
    there = np.flatnonzero(~np.isnan(vectors[:, 0]))
    assert 0 < len(there) == status.succeeded < TEXTS
    for position in there[:: len(there) // 10 + 1].tolist():
        assert vectors[position].tolist() == np.float32(expected_vector(tag, position, LENGTH)).tolist()
    outcomes = list(mill.client.job(job_id).results())
    assert [outcome.position for outcome in outcomes] == list(range(TEXTS))
    assert {outcome.status for outcome in outcomes} == {"succeeded", "cancelled"}


@scenario("F39")
def test_a_job_cancelled_at_any_moment_ends_at_once_and_keeps_what_it_has(mill: Mill) -> None:
    chance = random.Random(39)
    for _ in range(MOMENTS):
        cancel_midway(mill, chance.randint(1, 12))
    mill.judge().assert_clean()


def cancel_midway(mill: Mill, done: int) -> None:
    # Given a job in the midst of being worked on
    late = mill.counters().get("commits_late", 0)
    tag, commits = mill.tag(), mill.commits()
    job_id = mill.submit(TEXTS, tag, length=LENGTH, outcome="cancelled")
    mill.wait_for(lambda: mill.commits() >= commits + done and leased(mill, job_id), what="some results")
    # When it is cancelled
    start = time.monotonic()
    assert mill.client.job(job_id).cancel()
    claimed = claims(mill, job_id)
    # Then it has ended and nobody holds a chunk of it
    assert mill.client.job(job_id).status().state == "cancelled"
    mill.wait_for(lambda: not leased(mill, job_id), what="its leases to end")
    mill.record("F39", "seconds until no chunk was leased", time.monotonic() - start)
    # And what its workers had in hand comes too late, and nobody takes more of it
    mill.wait_counted("commits_late", late)
    mill.record("F39", "seconds until its workers had turned to other work", time.monotonic() - start)
    settle(mill)
    assert claims(mill, job_id) == claimed
    check_what_is_kept(mill, job_id, tag)


@scenario("F40")
def test_a_job_whose_time_is_over_ends_and_keeps_what_it_has(mill: Mill) -> None:
    # Given a job that has an hour, and is at work
    before = mill.counters().get("jobs_expired", 0)
    tag, commits = mill.tag(), mill.commits()
    start = time.monotonic()
    job_id = mill.submit(TEXTS, tag, length=LENGTH, outcome="expired", options={"expires_in": 3600.0})
    sealed = time.monotonic()
    mill.wait_for(lambda: mill.commits() > commits, what="a first result")
    # When all of that but four seconds has passed, and then these
    mill.sql("UPDATE jobs SET expires_at = expires_at - 3596000 WHERE id = ?", job_id)
    mill.wait_for(lambda: not mill.open_jobs(), what="the job to expire")
    ended = time.monotonic()
    assert ended - start >= 4.0
    mill.record("F40", "seconds from the deadline until the job had ended", max(0.0, ended - sealed - 4.0))
    # Then it has expired, the work on it stops, and what was done stays
    assert mill.client.job(job_id).status().state == "expired"
    assert mill.wait_counted("jobs_expired", before) == before + 1
    claimed = claims(mill, job_id)
    settle(mill)
    assert claims(mill, job_id) == claimed
    check_what_is_kept(mill, job_id, tag)
    mill.judge().assert_clean()


@scenario("F49")
def test_a_late_commit_writes_nothing_into_a_job_that_was_deleted(mill: Mill) -> None:
    # Given a job that was cancelled while workers are embedding chunks of it
    late, commits = mill.counters().get("commits_late", 0), mill.commits()
    job = mill.client.submit([f"{number} " + "x" * LENGTH for number in range(TEXTS)])
    mill.wait_for(lambda: mill.commits() > commits and leased(mill, job.id), what="a first result")
    job.cancel()
    # When it is deleted before they are done
    job.delete()
    # Then it is unknown at once, and nothing of it is left, whatever they bring later
    with pytest.raises(UnknownJob):
        job.status()
    mill.wait_counted("commits_late", late)
    settle(mill)
    for table in ("chunks", "inputs", "results"):
        assert mill.sql(f"SELECT count(*) FROM {table} WHERE job_id = ?", job.id) == [(0,)]
        assert mill.sql(f"SELECT count(*) FROM {table} WHERE job_id NOT IN (SELECT id FROM jobs)") == [(0,)]
    assert job.id not in [status.id for status in mill.client.jobs()]
    mill.judge().assert_clean()


@scenario("F50")
@pytest.mark.parametrize("redone", [False, pytest.param(True, marks=full)])
def test_a_retry_while_the_first_attempt_is_late_changes_no_vector(mill: Mill, redone: bool) -> None:
    # Given a chunk that another worker did, since the first one stands still with the vectors in hand
    late = mill.counters().get("commits_late", 0)
    job_id, zombie = done_by_another(mill)
    # When its failed item is sent round again, and the first attempt wakes up: before or after that was done
    assert mill.client.job(job_id).retry_failed() == 1
    if redone:
        mill.wait_complete()
    mill.thaw(zombie)
    # Then the late one is refused, the token has only grown, and each round wrote once
    mill.wait_complete()
    mill.wait_counted("commits_late", late, timeout=60)
    tokens = [token for (token,) in mill.sql("SELECT token FROM commit_log WHERE job_id = ? ORDER BY id", job_id)]
    assert len(tokens) == 2 and tokens[0] >= 2 and tokens == sorted(set(tokens))
    status = mill.client.job(job_id).status()
    assert (status.state, status.succeeded, status.failed) == ("completed", 11, 1)
    mill.judge().assert_clean()


def done_by_another(mill: Mill) -> tuple[str, int]:
    """Return a job of one chunk that is done, and the process id of the frozen worker that had it first."""
    for _ in range(TRIES):
        mill.arm("embed.end", "stop")
        job_id = mill.submit(12, length=LENGTH, markers={5: "!raise"})
        zombie = mill.wait_fired("embed.end", "stop")
        if not keeps_others_out(mill):
            mill.wait_complete()
            return job_id, zombie
        # Another thread of it stands still inside a transaction.
        mill.thaw(zombie)
        mill.wait_complete()
    raise AssertionError("no worker stood still with nothing but vectors in hand")
