"""Mills whose processes a test has prepared, looks at who holds what, and processes frozen where they harm nobody."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.mill import Mill
from tests.faults.running import running_mill
from tests.standstill import is_kept, wait_until_still
from worker.reserve import BULK_THREADS

_TRIES = 10


@contextmanager
def bent_mill(kind: str, *, supervisors: int = 1, slots: int = 1, **given: Any) -> Iterator[Mill]:
    """Start a mill of `process_bent` processes; judge it in the end.

    Args:
        kind: `sqlite` or `postgresql`.
        supervisors: How many.
        slots: Worker processes of each.
        **given: Whatever else `running_mill` takes.
    """
    with running_mill(kind, workers=0, slots=slots, **given) as mill:
        for _ in range(supervisors):
            start_bent(mill)
        mill.wait_for(lambda: mill.ready_workers() == supervisors * slots, what="all workers to be ready")
        yield mill


def start_bent(mill: Mill, **environment: str) -> subprocess.Popen[bytes]:
    """Start one more supervisor of such processes; variables in capitals are set on top."""
    process = mill.start("tests.faults.supervisor_bent", [], **environment)
    mill.supervisors.append(process)
    return process


def holders(mill: Mill) -> list[int]:
    """Return the process ids of the workers that hold a chunk."""
    query = "SELECT DISTINCT w.pid FROM workers w JOIN chunks c ON c.lease_owner = w.id WHERE c.state = 'leased'"
    return [int(pid) for (pid,) in mill.sql(query)]


def wait_holder(mill: Mill) -> int:
    """Wait until a worker holds a chunk; return its process id."""
    return int(mill.wait_for(lambda: holders(mill), what="a worker to hold a chunk")[0])


def wait_busy(mill: Mill, workers: int) -> int:
    """Wait until every bulk thread of some workers holds a chunk; return the process id of one of the workers.

    From then on they embed, and hardly ever are inside a transaction, which would keep everybody else from writing.
    """
    query = "SELECT count(*) FROM chunks WHERE state = 'leased'"
    mill.wait_for(lambda: mill.sql(query)[0][0] >= BULK_THREADS * workers, what="all threads to hold a chunk")
    return wait_holder(mill)


def freeze_outside(mill: Mill, *pids: int) -> None:
    """Freeze processes while none of them is inside a transaction, which would keep everybody else from writing."""
    for _ in range(_TRIES):
        for pid in pids:
            mill.freeze(pid)
        for pid in pids:
            wait_until_still(pid)
        if not keeps_others_out(mill):
            return
        for pid in pids:
            mill.thaw(pid)
        time.sleep(0.1)
    raise AssertionError(f"{pids} were always inside a transaction")


def hold_at_work(mill: Mill, count: int, ready: Callable[[], bool] = lambda: True) -> tuple[str, list[int]]:
    """Submit a job and freeze the workers in its midst, outside of transactions; return its id and theirs.

    Args:
        mill: Where.
        count: Its texts, a job of some seconds.
        ready: What else must hold then.
    """
    for _ in range(_TRIES):
        done, workers = mill.commits() + 2, mill.worker_pids()
        job = mill.submit(count, length=2_000)
        mill.wait_for(partial(_is_beyond, mill, done), what="a job in its midst")
        freeze_outside(mill, *workers)
        if mill.open_jobs() and mill.commits() > done and ready():
            return job, workers
        for pid in workers:
            mill.thaw(pid)
        mill.wait_complete()
    raise AssertionError("a job was always over before anybody could see it in its midst")


def _is_beyond(mill: Mill, done: int) -> bool:
    return mill.commits() > done or not mill.open_jobs()


def keeps_others_out(mill: Mill) -> bool:
    """Whether somebody who stands still is inside a transaction."""
    if mill.postgres is not None:
        time.sleep(1)
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
            " AND clock_timestamp() - state_change > interval '0.8 seconds'"
        )
        return bool(mill.sql(query)[0][0])
    return is_kept(Path(mill.database.removeprefix("sqlite:///")))


def total(mill: Mill, column: str) -> int:
    """Return the sum of a column of all chunks, such as `crashes` or `claims`."""
    return int(mill.plain.value(f"SELECT COALESCE(sum({column}), 0) FROM chunks"))
