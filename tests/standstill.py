"""Processes that stand still where they harm nobody: outside of SQLite's one write transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

#: How often a process is let go because it stood still in a transaction, before the test gives up.
_TRIES = 10


@contextmanager
def standing_still(pid: int, database: Path) -> Iterator[None]:
    """Have a process stand still during the block, where others can write meanwhile.

    Args:
        pid: The process; it may end meanwhile.
        database: The SQLite file that it writes to.
    """
    process = psutil.Process(pid)
    for _ in range(_TRIES):
        process.suspend()
        wait_until_still(pid)
        if not is_kept(database):
            break
        process.resume()
        time.sleep(0.1)
    else:
        raise AssertionError(f"process {pid} was always inside a transaction")
    try:
        yield
    finally:
        if process.is_running():
            process.resume()


def wait_until_still(pid: int) -> None:
    """Wait until a process that was told to has stopped: each of its threads may be at something for a moment more."""
    deadline = time.monotonic() + 60
    while not all(_is_still(stat) for stat in Path(f"/proc/{pid}/task").glob("*/stat")):
        assert time.monotonic() < deadline, f"process {pid} does not stand still"
        time.sleep(0.01)


def _is_still(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] in "TtZX"
    except OSError:  # it has ended
        return True


def is_kept(database: Path) -> bool:
    """Whether somebody keeps a SQLite file to himself, for longer than anybody does who does not stand still."""
    with closing(sqlite3.connect(database, timeout=3, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False
