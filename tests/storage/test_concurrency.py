"""Several processes and threads at work on one database: nothing is lost, nobody is locked out."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.contract.states import JobState
from storage.stores import Stores
from tests.repeating import repeating
from tests.storage.builders import CARD, chunk, claim, result, serve, submit

#: A process that submits jobs and does whatever chunks it can get, as producer and worker at once.
BUSY = """
import sys
sys.path.insert(0, sys.argv[2])
from storage.database import Database
from storage.stores import Stores
from tests.storage.builders import PLENTY, claim, result, serve, submit
stores = Stores.on(Database(sys.argv[1]))
worker = serve(stores)
print("ready", flush=True)
sys.stdin.read()
for _ in range(5):
    job_id = submit(stores, 4)
    for number in range(4):
        held = claim(stores, job_id, number, worker, PLENTY)
        stores.leases.heartbeat(worker, [one.key for one in held])
        stores.leases.commit([(one, result()) for one in held])
    print(job_id, flush=True)
"""


def test_four_processes_that_write_at_once_are_never_locked_out(database_url: str, stores: Stores) -> None:
    # Given four processes about to submit and embed
    root = str(Path(__file__).parents[2])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", BUSY, database_url, root]
    busy = [subprocess.Popen(command, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    try:
        for process in busy:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
        # When all do so at once
        for process in busy:
            process.stdin.close()
        # Then none sees an error
        jobs = []
        for process in busy:
            jobs += process.stdout.read().split()
            assert (process.wait(timeout=60), process.stderr.read()) == (0, "")
    finally:
        for process in busy:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                pipe.close()
    # And every item of every job has its vector
    assert len(jobs) == 20
    for status in stores.statuses.many(jobs):
        assert (status.state, status.succeeded, status.total) == ("completed", 8, 8)


def test_readers_see_whole_chunks_while_others_write(stores: Stores, open_again: Callable[[], Stores]) -> None:
    worker = serve(stores)
    job_id = submit(stores, 20)
    other, seen = open_again(), list[tuple[int, int, int]]()

    def read() -> None:
        status = other.statuses.get(job_id)
        pages = [page.matrix() for page in other.results.pages(job_id)]
        whole = sum(int(np.isfinite(matrix).all()) for matrix in pages if matrix is not None)
        seen.append((status.succeeded, 2 * whole, status.succeeded + status.pending))

    with repeating(read) as raised:
        for number in range(20):
            (held,) = claim(stores, job_id, number, worker)
            stores.leases.commit([(held, result())])
            # However fast this goes, some readings begin in the midst
            begun = len(seen) + 1
            while not raised and number % 5 == 4 and len(seen) <= begun:
                time.sleep(0.01)
        while not raised and not (seen and seen[-1][0] == 40):
            time.sleep(0.01)
    assert raised == []
    assert all(counted <= read and total == 40 for counted, read, total in seen)
    assert [counted for counted, _, _ in seen] == sorted(counted for counted, _, _ in seen)
    assert len({counted for counted, _, _ in seen}) > 2


def test_dispatchers_that_work_at_once_send_nothing_twice_and_keep_the_window(
    stores: Stores, open_again: Callable[[], Stores]
) -> None:
    for _ in range(4):
        serve(stores)
    submit(stores, 40)
    sent: list[Pointer] = []
    barrier = threading.Barrier(4, timeout=30)

    def send(own: Stores) -> None:
        barrier.wait()
        for _ in range(3):
            sent.extend(own.chunks.dispatch(CARD.id, Priority.BULK, most=2))

    threads = [threading.Thread(target=send, args=(open_again(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(sent) == len(set(sent))
    # Two dispatchers that count at the same moment may overshoot by what one of them sends, no further
    assert 16 <= len(sent) <= 16 + 3 * 2
    assert stores.chunks.out(CARD.id) == len(sent)


def test_a_cancel_in_the_middle_of_commits_leaves_every_item_one_outcome(
    stores: Stores, open_again: Callable[[], Stores]
) -> None:
    worker = serve(stores)
    jobs = [submit(stores, [chunk(number) for number in range(6)]) for _ in range(5)]
    other, barrier = open_again(), threading.Barrier(2, timeout=30)

    def cancel_all() -> None:
        for job_id in jobs:
            barrier.wait()
            other.jobs.cancel(job_id)

    canceller = threading.Thread(target=cancel_all)
    canceller.start()
    for job_id in jobs:
        held = [claim(stores, job_id, number, worker)[0] for number in range(5)]
        barrier.wait()
        for one in held:
            stores.leases.commit([(one, result())])
    canceller.join(60)
    for status in stores.statuses.many(jobs):
        assert status.state == JobState.CANCELLED
        assert (status.succeeded + status.cancelled, status.pending, status.failed) == (12, 0, 0)
        outcomes = [outcome for page in stores.results.pages(status.id) for outcome in page.outcomes()]
        assert sum(outcome.status == "succeeded" for outcome in outcomes) == status.succeeded
        assert sum(outcome.vector is not None for outcome in outcomes) == status.succeeded
