"""PostgreSQL restarted, away, cutting its connections, deadlocked and locked, in the midst of a job."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from storage.contract.errors import StorageUnavailable
from tests.faults import processes
from tests.faults.forms import full, scenario
from tests.faults.mill import Mill
from tests.faults.running import running_mill

#: How long a silent worker keeps its chunks, in seconds.
LEASE = 10.0

#: How often the answer to a commit is taken away at most, until it is the commit of a result.
TRIES = 10


@pytest.fixture(scope="module")
def mill() -> Iterator[Mill]:
    # The servers of tests may forget the last moments when they are killed; this one keeps its word.
    kept = ("synchronous_commit=on",)
    # And no supervisor kills whoever is frozen, however long that takes.
    given = {"FAULTS_PAUSE_PER_TEXT": "0.01", "FAULTS_SILENCE": "600"}
    with running_mill("postgresql", lease=LEASE, proxy_database=True, postgres_settings=kept, **given) as mill:
        yield mill


def at_work(mill: Mill, count: int = 500) -> str:
    """Submit a job of some seconds; return its id once it is in its midst."""
    job, before = mill.submit(count, length=2_000), mill.commits()
    mill.wait_for(lambda: mill.commits() > before + 2, what="a job in its midst")
    return job


def settle(mill: Mill) -> None:
    mill.wait_complete()
    mill.judge().assert_clean()


@scenario("F16")
def test_a_commit_whose_answer_is_lost_is_found_done_by_its_token(mill: Mill) -> None:
    assert mill.database_proxy is not None
    before = mill.counters().get("commits_resolved", 0)
    for _ in range(TRIES):
        # Given a worker about to commit, and nobody else at the database
        mill.arm("commit.written", "stop")
        job = mill.submit(15, length=2_000)
        worker = mill.wait_fired("commit.written", "stop")
        others = [*mill.reconciler_pids(), *(process.pid for process in mill.supervisors)]
        for pid in others:
            mill.freeze(pid)
        # When the database commits, and its answer is lost with the connection
        mill.database_proxy.drop_reply(b"COMMIT")
        mill.thaw(worker)
        assert mill.database_proxy.dropped.wait(60)
        for pid in others:
            mill.thaw(pid)
        # Then the job is done, written once
        mill.wait_complete()
        mill.judge().assert_clean()
        assert mill.sql("SELECT count(*) FROM commit_log WHERE job_id = ?", job) == [(1,)]
        # And it was the worker that found it (the heartbeat's commit may have been in front of it)
        time.sleep(1.5)
        if mill.counters().get("commits_resolved", 0) > before:
            return
    raise AssertionError("no commit was found done")


@scenario("F16")
@pytest.mark.parametrize("name", ["commit.written", pytest.param("commit.guarded", marks=full)])
def test_a_restart_in_the_midst_of_a_commit_undoes_it_and_it_is_done_again(mill: Mill, name: str) -> None:
    assert mill.postgres is not None
    # Given a worker in the midst of a commit
    workers = mill.worker_pids()
    mill.arm(name, "stop")
    mill.submit(200, length=2_000)
    worker = mill.wait_fired(name, "stop")
    before = mill.commits()
    # When PostgreSQL ends as if the power had failed, and is started again
    mill.postgres.restart(signal.SIGQUIT)
    # Then nothing of it was kept
    assert mill.wait_for(lambda: (mill.commits(),)) == (before,)
    # And the worker does it again, and goes on
    mill.thaw(worker)
    mill.record("F16", "seconds from PostgreSQL being back until work went on", mill.seconds_until_progress())
    settle(mill)
    assert mill.worker_pids() == workers


@full
@scenario("F17")
def test_a_database_that_is_away_is_waited_for_without_crashes_and_without_hoarding(mill: Mill) -> None:
    assert mill.postgres is not None
    # Given a job in its midst
    at_work(mill)
    before, started = mill.counters(), [*mill.worker_pids(), *mill.reconciler_pids()]
    memory = sum(map(processes.memory_of, started))
    # When PostgreSQL is away for a minute, and nothing can be submitted
    mill.postgres.stop()
    with pytest.raises(StorageUnavailable, match="does not answer"):
        mill.submit(10)
    time.sleep(60)
    grown = sum(map(processes.memory_of, started)) - memory
    mill.postgres.start()
    # Then work goes on, and the worker held no more than it had begun
    (held,) = mill.wait_for(lambda: mill.sql("SELECT count(*) FROM chunks WHERE state = 'leased'"))[0]
    mill.record("F17", "seconds from PostgreSQL being back until work went on", mill.seconds_until_progress())
    mill.record("F17", "chunks held meanwhile", held)
    mill.record("F17", "bytes that the processes grew meanwhile", grown)
    settle(mill)
    assert held <= 20
    assert grown < 32 << 20
    # And nobody has crashed
    assert [*mill.worker_pids(), *mill.reconciler_pids()] == started
    assert mill.counters().get("workers_died", 0) == before.get("workers_died", 0)


@full
@scenario("F18")
def test_connections_that_are_ended_again_and_again_fail_nothing(mill: Mill) -> None:
    # Given a job that takes longer than the disturbance
    job = at_work(mill, 2_000)
    workers = mill.worker_pids()
    # When all connections are ended, again and again
    end, cut = time.monotonic() + 10, 0
    while time.monotonic() < end:
        cut += mill.cut_connections()
        time.sleep(0.3)
    # Then all is done
    assert cut >= 10
    mill.record("F18", "connections ended", cut)
    mill.record("F18", "seconds from the last cut until work went on", mill.seconds_until_progress())
    settle(mill)
    assert mill.client.job(job).status().failed == 0
    assert mill.worker_pids() == workers


@full
@scenario("F18")
def test_a_deadlock_is_retried(mill: Mill) -> None:
    # Given a worker that has locked a chunk
    before = mill.counters().get("conflicts_retried", 0)
    mill.arm("commit.guarded", "stop")
    job = mill.submit(15, length=2_000)
    worker = mill.wait_fired("commit.guarded", "stop")
    with psycopg.connect(mill.database) as connection:
        # When somebody has locked where it will write, and waits for that chunk, more patient than the worker is
        connection.execute("SET deadlock_timeout = '60s'")
        connection.execute("LOCK TABLE results IN ACCESS EXCLUSIVE MODE")
        wait = "SELECT 1 FROM chunks WHERE job_id = %s FOR UPDATE"
        waiting = threading.Thread(target=connection.execute, args=(wait, [job]))
        waiting.start()
        mill.wait_for(lambda: mill.sql("SELECT 1 FROM pg_locks WHERE NOT granted"), what="the deadlock's first half")
        mill.thaw(worker)
        waiting.join(60)
        assert not waiting.is_alive()
    # Then the worker does it again
    settle(mill)
    mill.wait_counted("conflicts_retried", before)


@full
@scenario("F18")
def test_a_table_that_somebody_has_locked_is_waited_for(mill: Mill) -> None:
    # Given a job in its midst
    job, before, workers = at_work(mill), mill.counters().get("conflicts_retried", 0), mill.worker_pids()
    # When somebody keeps everybody from the chunks, for longer than a statement waits for a lock
    with psycopg.connect(mill.database) as connection:
        connection.execute("LOCK TABLE chunks IN ACCESS EXCLUSIVE MODE")
        time.sleep(15)
    # Then work goes on afterwards, and nothing has failed
    mill.record("F18", "seconds from the end of the lock until work went on", mill.seconds_until_progress())
    settle(mill)
    assert mill.client.job(job).status().failed == 0
    mill.wait_counted("conflicts_retried", before)
    assert mill.worker_pids() == workers
