"""Processes of the fault suite: how they are started, and how they are found again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from worker.parent import PARENT_VARIABLE

_ROOT = Path(__file__).parents[2]

#: In an environment, with the folder of another version of the program, which is run instead.
ROOT = "FAULTS_ROOT"

#: In the environment of everything that is started here, with the folder it belongs to.
_MARK = "FAULTS_FOLDER"


def start(
    module: str,
    arguments: list[str],
    environment: dict[str, str],
    log: Path,
    folder: Path,
    prefix: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """Start a Python module as a process group of its own.

    Start it in the main thread: it dies with the thread that started it.

    Args:
        module: What `python -m` takes.
        arguments: Its arguments.
        environment: Variables on top of this process's.
        log: File for all that it and its children print.
        folder: Where it runs, and what it is marked with.
        prefix: What the command begins with, such as `nsenter` and a namespace.
    """
    root = environment.get(ROOT, str(_ROOT))
    variables = {**os.environ, **environment, "PYTHONPATH": root, "PYTHONUNBUFFERED": "1"}
    with log.open("ab") as output:
        return subprocess.Popen(
            [*prefix, sys.executable, "-P", "-m", module, *arguments],
            env=variables | {_MARK: str(folder), PARENT_VARIABLE: str(os.getpid())},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def marked(folder: Path) -> list[int]:
    """Return the process ids of everything that was started for a folder and lives, orphans too."""
    mark = f"{_MARK}={folder}\0".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environment.read_bytes():
                found.append(int(environment.parent.name))
        except OSError:
            continue
    return found


def command_of(pid: int) -> str:
    """Return the command line of a process, empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def state_of(pid: int) -> str:
    """Return the letter by which the kernel tells what a process does (`T`: stopped), empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet waited for does not."""
    return state_of(pid) not in ("", "Z", "X")


def wait_until_ended(pids: list[int], timeout: float) -> None:
    """Wait until none of these processes runs."""
    deadline = time.monotonic() + timeout
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, f"of {pids} some do not end"
        time.sleep(0.02)


def memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors_of(pid: int) -> int:
    """Return how many file descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
