"""Processes that are late: frozen past their lease, slower than a broker's patience, or with a clock that is wrong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.bent import bent_mill, freeze_outside, holders, start_bent, total, wait_busy
from tests.faults.forms import KINDS, full, scenario
from tests.faults.mill import Mill
from tests.needs import need_faketime
from tests.stack import children

LEASE = 2.0

#: Seconds that a supervisor waits for a sign of life: longer than anybody is frozen here, however slow the machine.
SILENCE = "600"

#: How far a clock is off at least, in seconds.
HOUR = 3_500


@full
@scenario("F6")
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_process_frozen_past_its_lease_brings_is_refused(kind: str) -> None:
    # Given two worker processes, one of which freezes in the midst of a batch
    with bent_mill(kind, slots=2, lease=LEASE, pause=0.5, FAULTS_SILENCE=SILENCE) as mill:
        mill.submit(200, length=2_000)
        victim = wait_busy(mill, 2)
        freeze_outside(mill, victim)
        # When the other one has taken its chunks over, and it goes on
        expired = mill.wait_counted("leases_expired", timeout=60)
        mill.wait_complete()
        mill.thaw(victim)
        # Then everything it brings is refused
        assert mill.wait_counted("commits_late", timeout=60) <= expired
        assert total(mill, "crashes") == 0


@scenario("F6")
@full
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_machine_frozen_past_its_leases_brings_is_refused(kind: str) -> None:
    # Given two machines, of which one freezes with all that runs on it
    with bent_mill(kind, supervisors=2, lease=LEASE, pause=0.5, FAULTS_SILENCE=SILENCE) as mill:
        mill.submit(400, length=2_000)
        victim = wait_busy(mill, 2)
        machine = next(process.pid for process in mill.supervisors if victim in children(process.pid))
        frozen = [machine, *children(machine)]
        freeze_outside(mill, *frozen)
        # When the other one has done everything, and the first one goes on
        start = time.monotonic()
        mill.wait_counted("leases_expired", timeout=60)
        mill.record("F6", "seconds until the leases were taken back", time.monotonic() - start)
        mill.wait_complete()
        for pid in frozen:
            mill.thaw(pid)
        # Then everything it brings is refused
        mill.wait_counted("commits_late", timeout=60)
        assert total(mill, "crashes") == 0


@scenario("F6")
@full
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_frozen_in_the_midst_of_its_commit_commits_once_or_not_at_all(kind: str) -> None:
    # Given two worker processes, one of which freezes inside the transaction that commits
    with bent_mill(kind, slots=2, lease=LEASE, FAULTS_SILENCE=SILENCE) as mill:
        mill.arm("commit.guarded", "stop")
        job_id = mill.submit(100, length=2_000)
        victim = mill.wait_fired("commit.guarded", "stop")
        # When the lease of what it commits has been over for seconds, and nobody could take it
        over = (
            "SELECT number, token FROM chunks WHERE state = 'leased' AND lease_expires < ?"
            " AND lease_owner IN (SELECT id FROM workers WHERE pid = ?)"
        )
        time.sleep(LEASE + 3)
        held = mill.wait_for(lambda: mill.sql(over, int(time.time() * 1000) - 3_000, victim), what="leases to run out")
        mill.thaw(victim)
        # Then all is done, each chunk written once
        mill.wait_complete()
        mill.judge().assert_clean()
        # And what it was committing by itself, in spite of the lease: the transaction had looked before
        written = mill.sql("SELECT number, token FROM commit_log WHERE job_id = ?", job_id)
        assert set(held) & set(written)


@scenario("F7")
@full
@pytest.mark.parametrize("kind", KINDS)
def test_a_message_sent_again_while_its_chunk_is_being_done_is_dropped(kind: str) -> None:
    # Given a broker that sends again after two seconds what is not acknowledged, and batches that take five
    with bent_mill(kind, slots=2, lease=6.0, pause=5.0, FAULTS_VISIBILITY="2") as mill:
        # When a job is done
        mill.submit(50, length=2_000)
        mill.wait_complete()
        # Then messages came twice and were dropped, and no chunk was begun twice
        mill.record("F7", "messages dropped", mill.wait_counted("messages_dropped"))
        assert mill.plain.value("SELECT max(claims) FROM chunks") == 1


@scenario("F34")
@full
@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_worker_whose_clock_is_wrong_and_steps_keeps_its_leases_and_takes_nobody_elses(kind: str) -> None:
    # Given one worker with a right clock, and one an hour ahead
    with bent_mill(kind, lease=LEASE, pause=0.2) as mill:
        clock = mill.folder / "clock"
        clock.write_text("+1h")
        told = mill.folder / "told"
        start_bent(mill, **_faked(clock), FAULTS_CLOCK=str(told))
        mill.wait_for(lambda: mill.ready_workers() == 2, what="both workers to be ready")
        mill.submit(600, length=2_000)
        _wait_until_both_work(mill)
        mill.wait_for(lambda: _ahead(told) > HOUR, what="a clock that is ahead")
        # When that clock steps two hours back in the midst of the job
        clock.write_text("-1h")
        mill.wait_for(lambda: _ahead(told) < -HOUR, what="a clock that is behind")
        _wait_until_both_work(mill)
        mill.wait_complete()
        # Then both have worked all the time, and no lease was lost to the other
        assert mill.plain.value("SELECT max(claims) FROM chunks") == 1
        counters = mill.counters()
        assert (counters.get("leases_expired", 0), counters.get("commits_late", 0)) == (0, 0)


def _faked(clock: Path) -> dict[str, str]:
    return {
        "LD_PRELOAD": str(need_faketime()),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _ahead(told: Path) -> float:
    """Return by how many seconds a worker's clock is ahead; 0 while it has not told."""
    if not told.exists() or not (text := told.read_text()).endswith("\n"):
        return 0.0
    return float(text) - time.time()


def _wait_until_both_work(mill: Mill) -> None:
    seen: set[int] = set()
    mill.wait_for(lambda: seen.update(holders(mill)) or len(seen) == 2, what="both workers to hold chunks")
