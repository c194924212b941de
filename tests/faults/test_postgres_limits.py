"""PostgreSQL with a full disk, without free connections, with a clock that goes back, and met by all at once."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from storage.contract.errors import StorageFull
from tests.faults.forms import full, scenario
from tests.faults.mill import Mill
from tests.faults.running import running_mill
from tests.faults.smalldisk import small_disk
from tests.needs import need_faketime
from tests.servers import PostgresServer

#: How long the encoder takes for a text, in seconds, so that a fault meets a job in its midst.
PACE = "0.01"

#: How far a clock goes back, in seconds.
BACK = 600


def at_work(mill: Mill, count: int) -> str:
    """Submit a job of some seconds; return its id once it is in its midst."""
    job, before = mill.submit(count, length=2_000), mill.commits()
    mill.wait_for(lambda: mill.commits() > before + 2, what="a job in its midst")
    return job


def server_log(mill: Mill) -> str:
    assert mill.postgres is not None
    return (mill.postgres.folder / "log").read_text(errors="replace")


@full
@scenario("F19")
def test_a_full_disk_refuses_submissions_and_is_waited_for() -> None:
    with small_disk(64) as disk, running_mill("postgresql", lease=10.0, FAULTS_PAUSE_PER_TEXT=PACE) as mill:
        # Given tables on a small disk, and a job in its midst
        assert mill.postgres is not None
        mill.postgres.stop()
        disk.take(mill.postgres.folder / "data" / "base")
        mill.postgres.start()
        mill.wait_for(lambda: mill.ready_workers() == 1)
        workers = mill.worker_pids()
        at_work(mill, 700)
        # When the disk is full
        disk.fill()
        # Then a submission is refused, with the reason
        with pytest.raises(StorageFull, match="disk is full"):
            mill.submit(30_000, ids=True)
        # And work pauses
        mill.wait_for(lambda: "disk is full" in mill.tails(20_000), what="the workers to meet the full disk")
        open_jobs = mill.open_jobs()
        # And goes on by itself when there is room, as do submissions
        disk.relieve()
        mill.record("F19", "seconds from room on the disk until work went on", mill.seconds_until_progress())
        mill.submit(1_000, ids=True)
        mill.wait_complete()
        mill.judge().assert_clean()
        assert open_jobs == 1
        assert mill.worker_pids() == workers


@full
@scenario("F20")
def test_a_database_without_free_connections_is_asked_with_back_off() -> None:
    settings = ("max_connections=20", "superuser_reserved_connections=0")
    # A lease of two seconds would be extended twice a second.
    with running_mill("postgresql", lease=10.0, postgres_settings=settings, FAULTS_PAUSE_PER_TEXT=PACE) as mill:
        # Given a job in its midst
        at_work(mill, 500)
        workers = mill.worker_pids()
        # When somebody else takes every connection, and ours with them, for a while
        seconds = 20
        with hogging(mill) as hog:
            before, own = refusals(mill), hog["refused"]
            time.sleep(seconds)
            refused = refusals(mill) - before - (hog["refused"] - own)
        # Then ours were refused, and came again seldom: each of three processes about once a second
        mill.record("F20", "refused connections a second, of three processes", refused / seconds)
        assert 0 < refused <= 4 * seconds
        # And work goes on afterwards
        mill.record("F20", "seconds from free connections until work went on", mill.seconds_until_progress())
        mill.wait_complete()
        mill.judge().assert_clean()
        assert mill.worker_pids() == workers


def refusals(mill: Mill) -> int:
    return server_log(mill).count("too many clients already")


@contextmanager
def hogging(mill: Mill) -> Iterator[Counter[str]]:
    """Take every connection there is, and end the program's own; count how often nothing was free."""
    stopped, counted = threading.Event(), Counter[str]()
    ours = "backend_type = 'client backend' AND application_name <> 'hog'"

    def take() -> None:
        taken = [psycopg.connect(mill.database, autocommit=True, application_name="hog")]
        while not stopped.wait(0.02):
            ended = taken[0].execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}").fetchall()
            if not ended and counted["refused"]:
                continue
            try:
                while True:
                    taken.append(psycopg.connect(mill.database, application_name="hog"))
            except psycopg.OperationalError:
                counted["refused"] += 1
        for connection in taken:
            connection.close()

    thread = threading.Thread(target=take)
    thread.start()
    try:
        while not counted["refused"]:
            time.sleep(0.05)
        yield counted
    finally:
        stopped.set()
        thread.join()


@full
@scenario("F35")
def test_a_database_whose_clock_goes_back_takes_no_lease_too_early() -> None:
    with running_mill("postgresql", slots=2, FAULTS_PAUSE_PER_TEXT=PACE) as mill:
        # Given a database whose clock can be moved, and a job in its midst
        assert mill.postgres is not None
        clock = own_clock(mill.postgres)
        mill.postgres.restart()
        mill.wait_for(lambda: mill.ready_workers() == 2)
        at_work(mill, 900)
        before, claimed, started = mill.counters(), claims(mill), database_time(mill)
        # When it goes back by ten minutes
        clock.write_text(f"-{BACK}")
        mill.wait_for(lambda: database_time(mill) < started - BACK / 2, what="the database's clock to go back")
        mill.record("F35", "seconds from the step until work went on", mill.seconds_until_progress())
        # Then the job is done, each chunk claimed once, and no lease has run out
        mill.wait_complete()
        mill.judge().assert_clean()
        assert claims(mill) > claimed
        assert mill.sql("SELECT count(*) FROM chunks WHERE claims <> 1") == [(0,)]
        # And what a process held that dies now comes back at once
        mill.submit(200, length=2_000)
        mill.kill(mill.worker_pids()[0])
        mill.wait_complete()
        for name in ("leases_expired", "commits_late"):
            assert mill.counters().get(name, 0) == before.get(name, 0)


def own_clock(postgres: PostgresServer) -> Path:
    """Have the server read its clock's offset from a file, from its next start on; return the file."""
    library = need_faketime()
    clock = postgres.folder / "clock"
    clock.write_text("+0")
    given = [f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={clock}", "FAKETIME_NO_CACHE=1"]
    # Timers and waits go by a clock that never steps, as on a real machine.
    postgres._command = ["env", *given, "FAKETIME_DONT_FAKE_MONOTONIC=1", *postgres._command]
    return clock


def claims(mill: Mill) -> int:
    return int(mill.sql("SELECT coalesce(sum(claims), 0) FROM chunks")[0][0])


def database_time(mill: Mill) -> float:
    return float(mill.sql("SELECT extract(epoch FROM clock_timestamp())")[0][0])


@full
@scenario("F47")
def test_jobs_that_waited_for_the_database_together_do_not_storm_it() -> None:
    settings = ("log_statement=mod", "log_line_prefix=%m [%p] ")
    with running_mill("postgresql", slots=2, postgres_settings=settings, FAULTS_PAUSE_PER_TEXT="0.1") as mill:
        assert mill.postgres is not None
        # Given two hundred small jobs, nearly all of which wait
        workers = mill.worker_pids()
        for pid in workers:
            mill.freeze(pid)
        jobs = [mill.submit(1) for _ in range(200)]
        for pid in workers:
            mill.thaw(pid)
        mill.wait_for(lambda: mill.commits() > 20)
        usual = busiest(server_log(mill))
        waiting = mill.open_jobs()
        # When the database is away for a while, and back
        mill.postgres.stop()
        time.sleep(10)
        seen = len(server_log(mill))
        mill.postgres.start()
        mill.record("F47", "seconds from PostgreSQL being back until work went on", mill.seconds_until_progress())
        mill.wait_complete()
        # Then nobody storms it
        after = busiest(server_log(mill)[seen:])
        mill.record("F47", "most claims in a second before", usual)
        mill.record("F47", "most claims in a second afterwards", after)
        assert usual > 0
        assert after <= 2 * usual + 5
        # And hardly a chunk was claimed twice
        assert waiting > 100
        assert claims(mill) <= 1.5 * len(jobs)
        mill.judge().assert_clean()


def busiest(log: str) -> int:
    """Return how many claims there were in the second that had most of them."""
    times = re.findall(
        r"^(\S+ \S+) \S+ \[\d+\] LOG: +execute [^:]*: UPDATE chunks SET .*lease_owner=", log, re.MULTILINE
    )
    moments = sorted(datetime.fromisoformat(time).timestamp() for time in times)
    most, start = 0, 0
    for end, moment in enumerate(moments):
        while moment - moments[start] > 1:
            start += 1
        most = max(most, end - start + 1)
    return most
