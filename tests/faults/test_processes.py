"""Processes that end: killed alone or with their machine, out of memory, or stopped in order one after another."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.bent import bent_mill, total, wait_holder
from tests.faults.forms import KINDS, full, scenario
from tests.faults.mill import Mill
from tests.faults.processes import alive
from tests.faults.running import running_mill

LEASE = 2.0

#: Texts of a job that three workers take a while for.
_LOAD = 10_000


@scenario("F1")
@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_process_killed_in_the_midst_of_a_batch_is_replaced_and_its_chunks_are_done(kind: str) -> None:
    # Given a worker process in the midst of a batch that has no end
    with running_mill(kind) as mill:
        mill.arm("encode", "hang")
        mill.submit(100, length=2_000)
        victim = mill.wait_fired("encode", "hang")
        # When it is killed
        mill.kill(victim)
        # Then its chunks are given back at once, and another process goes on
        mill.record("F1", "seconds until the next commit", mill.seconds_until_progress())
        mill.wait_complete()
        mill.wait_counted("workers_died")
        assert mill.wait_counted("leases_released") == total(mill, "crashes")
        assert victim not in mill.worker_pids()


@scenario("F2")
@full
@pytest.mark.parametrize("kind", KINDS)
def test_the_chunks_of_a_machine_that_is_lost_come_back_when_their_leases_end(kind: str) -> None:
    # Given two machines at work on a job
    with running_mill(kind, workers=2, lease=LEASE, pause=0.2) as mill:
        mill.submit(300, length=2_000)
        victim = wait_holder(mill)
        lost = next(process for process in mill.supervisors if _is_child(victim, process.pid))
        # When one of them is lost with all that runs there, the reconciler that leads perhaps among it
        mill.kill_supervisor(lost)
        start = time.monotonic()
        # Then the other one takes its chunks over, and nothing is charged to them
        mill.wait_counted("leases_expired", timeout=60)
        mill.record("F2", "seconds until the leases were taken back", time.monotonic() - start)
        mill.wait_complete()
        assert total(mill, "crashes") == 0


@scenario("F5")
@full
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_the_kernel_ends_for_its_memory_is_replaced(kind: str) -> None:
    # Given a supervisor, and a worker process whose memory is limited
    with bent_mill(kind) as mill, limited_memory(mill) as killed:
        (worker,) = mill.worker_pids()
        # When a batch takes all the memory there is
        mill.arm("encode", "hog")
        mill.submit(100, length=2_000)
        assert mill.wait_fired("encode", "hog") == worker
        # Then the process is killed, its chunks are charged and done, and the supervisor is still there
        mill.wait_for(lambda: not alive(worker), what="the process to be killed")
        assert killed() == 1, "it was not the kernel that has ended it"
        mill.record("F5", "seconds until the next commit", mill.seconds_until_progress())
        mill.wait_complete()
        assert mill.wait_counted("workers_died") == 1 and total(mill, "crashes") > 0
        assert mill.supervisors[0].poll() is None
        assert "signal SIGKILL" in mill.tails(100_000)


@scenario("F5")
@full
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_gets_no_more_memory_gives_its_chunks_back_and_lives(kind: str) -> None:
    # Given a worker process that has begun to work, and from then on may not grow by more than 100 MB
    with bent_mill(kind) as mill:
        mill.submit(2)
        mill.wait_complete()
        (worker,) = mill.worker_pids()
        pages = int(Path(f"/proc/{worker}/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + 100_000_000
        resource.prlimit(worker, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        # When a batch asks for more
        mill.arm("encode", "hog")
        mill.submit(100, length=2_000)
        mill.wait_fired("encode", "hog")
        # Then the attempt fails, is tried again, and nobody dies of it
        mill.wait_complete()
        assert total(mill, "claims") > mill.commits()
        assert mill.worker_pids() == [worker] and mill.counters().get("workers_died", 0) == 0
        assert "MemoryError" in mill.tails(100_000)


@scenario("F41")
@full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_workers_restarted_in_turn_under_load_waste_nearly_nothing(kind: str) -> None:
    # Given three supervisors under load
    with running_mill(kind, workers=3, lease=30.0, pause=0.05) as mill:
        mill.submit(_LOAD, length=2_000)
        before = mill.commits()
        # When each is stopped in order and replaced, again and again
        for _ in range(10):
            for process in list(mill.supervisors):
                mill.wait_for(lambda: mill.ready_workers() == 3, what="the next worker to be ready")
                if mill.open_jobs() == 0:
                    mill.submit(_LOAD, length=2_000)
                    mill.seconds_until_progress()
                mill.stop_supervisor(process)
                mill.start_supervisor()
        assert mill.commits() > before
        mill.wait_complete()
        # Then nothing is charged, no lease had to run out, and hardly a chunk was begun for nothing
        done, claimed = mill.commits(), total(mill, "claims")
        mill.record("F41", "wasted chunks in percent", 100 * (claimed - done) / done)
        assert claimed - done <= 0.05 * done
        assert total(mill, "crashes") == 0
        counters = mill.counters()
        assert (counters.get("leases_expired", 0), counters.get("workers_died", 0)) == (0, 0)


def _is_child(pid: int, parent: int) -> bool:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) == parent


@contextmanager
def limited_memory(mill: Mill) -> Iterator[Callable[[], int]]:
    """Put the worker processes into a group of 400 MB; yield what tells how many of it the kernel has killed."""
    group = Path("/sys/fs/cgroup/memory") / mill.folder.name
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("400000000")
    except OSError:
        pytest.skip("needs a group of limited memory")

    def killed() -> int:
        told = dict(line.split() for line in (group / "memory.oom_control").read_text().splitlines())
        return int(told["oom_kill"])

    try:
        for pid in mill.worker_pids():
            (group / "cgroup.procs").write_text(str(pid))
        yield killed
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(pid)
        group.rmdir()
