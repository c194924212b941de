"""A SQLite file that is locked, fought over, full, or whose writers are killed, in the midst of a job."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.contract.errors import StorageFull, StorageUnavailable
from tests.faults.bent import hold_at_work
from tests.faults.forms import FULL, full, scenario
from tests.faults.mill import Mill
from tests.faults.running import running_mill
from tests.faults.smalldisk import SmallDisk, small_disk

#: How long somebody else keeps the file, in seconds; in the long form longer than a writer waits.
LOCKED = 45.0 if FULL else 3.0

#: How often somebody is killed.
KILLS = 100 if FULL else 2

#: Holds the file until it is killed.
LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(1000)
"""

#: Moves the log into the file again and again.
CHECKPOINT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
print("begins", flush=True)
while True:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
"""


def file_of(mill: Mill) -> Path:
    return Path(mill.database.removeprefix("sqlite:///"))


@contextmanager
def beside(mill: Mill, script: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script on the file in a process of its own, from its first word on; kill it in the end."""
    command = [sys.executable, "-c", script, str(file_of(mill))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            yield process
        finally:
            process.kill()


def at_work(mill: Mill, count: int) -> str:
    """Submit a job of some seconds; return its id once it is in its midst."""
    job, before = mill.submit(count, length=2_000), mill.commits()
    mill.wait_for(lambda: mill.commits() > before + 2, what="a job in its midst")
    return job


def logs(mill: Mill) -> str:
    return "\n".join(path.read_text(errors="replace") for path in mill.folder.glob("*.log"))


def assert_sound(mill: Mill) -> None:
    connection = sqlite3.connect(file_of(mill), timeout=60)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


@scenario("F21")
def test_a_file_that_somebody_has_locked_is_waited_for() -> None:
    with running_mill(FAULTS_PAUSE_PER_TEXT="0.01") as mill:
        # Given a job in its midst
        job_id, workers = hold_at_work(mill, 300)
        job = mill.client.job(job_id)
        # When another process keeps the file to itself, and somebody submits and asks meanwhile
        with ThreadPoolExecutor(1) as pool, beside(mill, LOCK):
            for pid in workers:
                mill.thaw(pid)
            submitted = pool.submit(mill.submit, 10)
            done, end = mill.commits(), time.monotonic() + LOCKED
            while time.monotonic() < end:
                status = job.status()
                assert (status.state, status.total) == ("running", 300)
                time.sleep(0.2)
            assert mill.commits() == done
            # Then whoever asks has an answer, and whoever submits waits, and is refused when it takes too long
            assert submitted.done() == FULL
        refused = submitted.exception()
        assert isinstance(refused, StorageUnavailable) if FULL else refused is None
        # Then work goes on afterwards
        mill.record("F21", "seconds from the end of the lock until work went on", mill.seconds_until_progress())
        mill.wait_complete()
        mill.judge().assert_clean()
        assert mill.worker_pids() == workers


@full
@scenario("F22")
def test_many_writers_and_a_reader_never_meet_a_locked_file() -> None:
    with running_mill(slots=4) as mill:
        began = time.monotonic()
        # Given four worker processes, and three producers in processes of their own
        producers = [mill.start_producer(60_000, ids=True, options={"priority": word}) for word in ("bulk", "urgent")]
        producers.append(mill.start_producer(6_000, length=2_000))
        # When somebody reads all the time, and submits small jobs too
        reads = 0
        while mill.open_jobs() or any(process.poll() is None for process in producers):
            mill.submit(1)
            for status in mill.client.jobs(limit=20):
                assert status.succeeded + status.pending == status.total
                reads += 1
        # Then nobody was told that the file is locked
        assert all(process.wait() == 0 for process in producers)
        assert "is locked" not in logs(mill)
        mill.judge().assert_clean()
        assert mill.commits() > 400 and reads > 100
        mill.record("F22", "commits a second of four workers", mill.commits() / (time.monotonic() - began))
        mill.record("F22", "statuses read meanwhile", reads)


@pytest.mark.timeout(600)
@scenario("F23")
def test_a_file_whose_writers_are_killed_at_random_stays_sound() -> None:
    chance = random.Random(23)
    with running_mill(slots=2, good_life=0.0, FAULTS_PAUSE_PER_TEXT="0.001") as mill:
        for _ in range(KILLS):
            # Given workers at work, and somebody who moves the log into the file
            with beside(mill, CHECKPOINT):
                before = mill.commits()
                mill.submit(1_500, length=2_000)
                mill.wait_for(lambda: mill.commits() > before, what="a commit")  # noqa: B023 - called here
                time.sleep(chance.random() / 4)
                # When one of the workers is killed, and who moves the log too
                for pid in chance.sample(mill.worker_pids(), 1):
                    mill.kill(pid)
            # Then the file is sound
            assert_sound(mill)
        # And all is done
        mill.wait_complete()
        assert_sound(mill)
        mill.judge().assert_clean()
        mill.wait_counted("workers_died", KILLS - 1)
        mill.record("F23", "kills that left a sound file", KILLS)


@full
@scenario("F23")
def test_a_full_disk_refuses_submissions_and_is_waited_for() -> None:
    with small_disk(16) as disk, running_mill(lease=10.0, FAULTS_PAUSE_PER_TEXT="0.01") as mill:
        # Given a file on a small disk, and a job in its midst
        move(mill, disk)
        at_work(mill, 700)
        before, workers = mill.counters(), mill.worker_pids()
        # When the disk is full
        disk.fill()
        # Then a submission is refused, with the reason
        with pytest.raises(StorageFull, match="disk is full"):
            mill.submit(30_000, ids=True)
        # And work pauses
        mill.wait_for(lambda: "disk is full" in logs(mill), what="the workers to meet the full disk")
        open_jobs = mill.open_jobs()
        # And goes on by itself when there is room, as do submissions
        disk.relieve()
        mill.record("F23", "seconds from room on the disk until work went on", mill.seconds_until_progress())
        mill.submit(1_000, ids=True)
        mill.wait_complete()
        mill.judge().assert_clean()
        assert_sound(mill)
        assert open_jobs == 1
        assert mill.worker_pids() == workers
        assert mill.counters().get("workers_died", 0) == before.get("workers_died", 0)


def move(mill: Mill, disk: SmallDisk) -> None:
    """Put the file on a disk, while nobody has it open."""
    mill.stop_supervisor()
    mill.plain.close()
    assert shutil.disk_usage(disk.path).free > 2 * file_of(mill).stat().st_size
    disk.take(file_of(mill))
    mill.start_supervisor()
    mill.wait_for(lambda: mill.ready_workers() == 1, what="the worker to be ready")
