"""Messages that come too often, too late, or that none of our senders has sent."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from storage.contract.ids import new_id
from tests.faults.bent import freeze_outside
from tests.faults.forms import KINDS, scenario
from tests.faults.mill import Mill
from tests.faults.rawqueue import RawQueue
from tests.faults.running import running_mill

#: How often a message is there in the end.
COPIES = 100


class Harm:
    """What a pickle does to those who load it: makes a folder."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._marker),)


@pytest.fixture(scope="module", params=KINDS)
def mill(request: pytest.FixtureRequest) -> Iterator[Mill]:
    # Whoever stands still for a while is to keep what he has, and his life.
    with running_mill(request.param, lease=600.0, FAULTS_SILENCE="600") as mill:
        yield mill


@pytest.fixture
def queue(mill: Mill) -> RawQueue:
    return RawQueue(mill.redis)


@contextmanager
def nobody_takes(mill: Mill, queue: RawQueue) -> Iterator[None]:
    """Freeze the worker meanwhile, so that messages stay where they are."""
    (worker,) = mill.worker_pids()
    freeze_outside(mill, worker)
    # Its last wait for a message ends at the server; else the next message would go to the frozen one.
    mill.wait_for(lambda: not queue.readers(), what="the last wait for a message to end")
    try:
        yield
    finally:
        mill.thaw(worker)


def claims_of(mill: Mill, job_id: str) -> list[int]:
    return [claims for (claims,) in mill.sql("SELECT claims FROM chunks WHERE CAST(job_id AS TEXT) = ?", job_id)]


@scenario("F24")
def test_a_message_that_comes_a_hundred_times_is_worked_on_once(mill: Mill, queue: RawQueue) -> None:
    before = mill.counters().get("messages_dropped", 0)
    with nobody_takes(mill, queue):
        # Given a message that waits
        job = mill.submit(15, length=2_000)
        (message,) = mill.wait_for(queue.entries)
        # When there are a hundred of it
        queue.push(*[message] * (COPIES - 1))
        began = time.monotonic()
    mill.wait_complete()
    mill.wait_for(lambda: not queue.entries(), what="the queue to be empty")
    mill.record("F24", "milliseconds to drop a doubled message", (time.monotonic() - began) * 1000 / (COPIES - 1))
    # Then one is worked on, and all the others are dropped
    mill.wait_counted("messages_dropped", before + COPIES - 2)
    assert mill.counters()["messages_dropped"] == before + COPIES - 1
    assert claims_of(mill, job) == [1]
    mill.judge().assert_clean()


@scenario("F25")
def test_messages_for_what_is_not_to_be_done_are_dropped_and_never_come_again(mill: Mill, queue: RawQueue) -> None:
    # Given a job that has ended, one that was cancelled with its message on the way, and one that is to be done
    done = mill.submit(15, length=2_000)
    mill.wait_complete()
    workers, before = mill.worker_pids(), mill.counters()
    with nobody_takes(mill, queue):
        cancelled = mill.submit(15, length=2_000, outcome="cancelled")
        mill.wait_for(queue.entries)
        mill.client.job(cancelled).cancel()
        # When messages for those come, and for unknown jobs and chunks, and of another version
        queue.push(queue.pointer(done, 0), queue.pointer(done, 7), queue.pointer(done, 2**62))
        queue.push(queue.pointer(cancelled, 0), queue.pointer(new_id(), 0), queue.pointer(done, 0, version=99))
        wanted = mill.submit(15, length=2_000)
    # Then the queue empties, and each is counted
    mill.wait_complete()
    mill.wait_for(lambda: not queue.entries(), what="the queue to be empty")
    mill.wait_counted("messages_dropped", before.get("messages_dropped", 0) + 6)
    # And none of them has made anybody do anything
    assert (claims_of(mill, done), claims_of(mill, cancelled), claims_of(mill, wanted)) == ([1], [0], [1])
    time.sleep(1)
    assert not queue.entries() and mill.counters()["messages_dropped"] == before.get("messages_dropped", 0) + 7
    assert mill.worker_pids() == workers
    mill.judge().assert_clean()


@scenario("F26")
def test_messages_that_nobody_has_sent_end_no_worker_and_run_no_code(mill: Mill, queue: RawQueue) -> None:
    # Given entries that are none of ours, two of which make a folder for whoever unpickles them
    markers = [mill.folder / f"marker-{i}" for i in range(2)]
    harms = [pickle.dumps(([], Harm(marker), {})) for marker in markers]
    unreadable = [
        b"not json",
        b"\xff\xfe\x00",
        b"[]",
        queue.envelope(b"[[], {}, {}]", properties=None),
        queue.envelope(b"x" * 50_000_000),
        harms[0],
    ]
    senseless = [
        queue.envelope(b"[[], {}, {}]", headers={}),
        queue.envelope(b"[[], {}, {}]", headers=None),
        queue.envelope(b"not json"),
        queue.envelope(b"[[], {}, {}]", **{"content-type": "application/x-own"}),
        queue.envelope(harms[1], **{"content-type": "application/x-python-serialize", "content-encoding": "binary"}),
    ]
    before, workers = mill.counters(), mill.worker_pids()
    # When they come before and amid the messages of a job
    queue.push(*unreadable, *senseless)
    began = time.monotonic()
    job = mill.submit(100, length=2_000)
    queue.push(*unreadable, *senseless)
    # Then the job is done by the worker that was there
    mill.wait_complete()
    mill.record("F26", "seconds until a job behind corrupt messages was done", time.monotonic() - began)
    assert mill.client.job(job).status().succeeded == 100
    assert mill.worker_pids() == workers
    assert mill.counters().get("workers_died", 0) == before.get("workers_died", 0)
    # And each was counted, none went back, and none was unpickled
    mill.wait_for(lambda: not queue.entries(), what="the queue to be empty")
    mill.wait_counted("messages_unreadable", before.get("messages_unreadable", 0) + 2 * len(unreadable) - 1)
    assert not any(marker.exists() for marker in markers)
    mill.judge().assert_clean()
    # And whoever does unpickle them gets the folder
    pickle.loads(harms[0])
    assert markers[0].exists()
