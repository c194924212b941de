"""Processes that live and do nothing: an engine that hangs, an interpreter that hangs, a consumer that takes none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.bent import bent_mill, holders, total
from tests.faults.forms import FULL, KINDS, KINDS_POSTGRES_FIRST, full, scenario
from tests.faults.mill import Mill
from tests.faults.rawqueue import RawQueue

#: Seconds instead of the 120 and the 30 of production.
STALL, SILENCE = 3.0, 5.0

#: Seconds for which messages may wait beside an idle process; in production 30.
PATIENCE = 30.0 if FULL else 2.0


@scenario("F33")
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_whose_engine_hangs_ends_itself_and_its_chunks_are_done(kind: str) -> None:
    # Given a worker process that waits three seconds for its engine
    with bent_mill(kind, FAULTS_STALL=str(STALL)) as mill:
        # When a batch never ends, while Python goes on
        mill.arm("encode", "hang")
        mill.submit(100, length=2_000)
        victim = mill.wait_fired("encode", "hang")
        # Then the process ends itself, and the next one does all
        mill.record("F33", "seconds beyond the stall watch's patience", mill.seconds_until_progress() - STALL)
        mill.wait_complete()
        mill.wait_counted("workers_stalled")
        assert victim not in mill.worker_pids()
        assert "exit code 75" in mill.tails(100_000)


@scenario("F33")
@full
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_cannot_run_python_is_killed_and_its_chunks_are_done(kind: str) -> None:
    # Given a supervisor that waits five seconds for a sign of life
    with bent_mill(kind, FAULTS_SILENCE=str(SILENCE)) as mill:
        # When a batch hangs and holds the interpreter's lock, so that no thread of the process runs
        mill.arm("encode", "hold")
        mill.submit(100, length=2_000)
        victim = mill.wait_fired("encode", "hold")
        # Then the supervisor kills it, and the next one does all
        mill.record("F33", "seconds beyond the supervisor's patience", mill.seconds_until_progress() - SILENCE)
        mill.wait_complete()
        mill.wait_counted("workers_silenced")
        assert victim not in mill.worker_pids()


@scenario("F51")
@pytest.mark.parametrize("kind", KINDS_POSTGRES_FIRST)
def test_a_process_that_takes_no_messages_any_more_ends_itself_and_the_next_one_does(kind: str) -> None:
    # Given a worker process that has done a job
    with bent_mill(kind, FAULTS_PATIENCE=str(PATIENCE)) as mill:
        mill.submit(10)
        mill.wait_complete()
        # When it becomes deaf, alive
        (worker,) = mill.worker_pids()
        _deafen(mill, worker)
        mill.submit(100, length=2_000)
        queue = RawQueue(mill.redis)
        waiting = mill.wait_for(queue.entries, what="messages that wait")
        time.sleep(PATIENCE / 2)
        # (on a slow machine it may have ended itself by now)
        assert set(waiting) <= set(queue.entries()) or worker not in mill.worker_pids(), "somebody takes messages"
        # Then it ends itself, and the next one does all
        mill.record("F51", "seconds until the wedged consumer's work went on", mill.seconds_until_progress(120))
        mill.wait_complete()
        mill.wait_counted("workers_starved")
        assert worker not in mill.worker_pids()
        assert total(mill, "crashes") == 0


@scenario("F51")
@full
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_without_work_and_one_with_too_much_are_never_held_to_be_deaf(kind: str) -> None:
    # Given a worker process that would end after a second of starving
    with bent_mill(kind, FAULTS_PATIENCE="1", pause=2.0) as mill:
        before, queue = mill.worker_pids(), RawQueue(mill.redis)
        # When no message waits for a while
        assert queue.entries() == []
        time.sleep(5)
        assert queue.entries() == []
        # And then more than its threads can hold, so that messages wait for longer than a second
        mill.submit(250, length=2_000)
        newest = mill.wait_for(lambda: queue.entries()[:1] if holders(mill) else None, what="messages that wait")
        time.sleep(1.5)
        assert newest[0] in queue.entries()
        mill.wait_complete()
        # Then it is the same process all the time
        assert mill.worker_pids() == before
        assert mill.counters().get("workers_starved", 0) == 0


def _deafen(mill: Mill, pid: int) -> None:
    Path(mill.environment["EMBEDMILL_FAILPOINTS"], f"deaf.{pid}").touch()
    # A wait for a message that has begun goes on for a fraction of a second.
    time.sleep(1)
    queue = RawQueue(mill.redis)
    mill.wait_for(lambda: not queue.readers(), what="the last wait for a message to end")
