"""Mills whose processes a test has prepared, and looks at who holds what."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.faults.mill import Mill
from tests.faults.running import running_mill
from worker.reserve import BULK_THREADS


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


def total(mill: Mill, column: str) -> int:
    """Return the sum of a column of all chunks, such as `crashes` or `claims`."""
    return int(mill.plain.value(f"SELECT COALESCE(sum({column}), 0) FROM chunks"))
