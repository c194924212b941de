"""The whole program as a user runs it, in real processes: `up`, or a `worker` against servers of one's own."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Longest start and stop, in seconds: a cold machine loads torch for half a minute.
_START, _STOP = 240, 60

#: Ports of one process that runs tests, and their numbers: those of several runs on one machine begin anywhere.
_PORTS = 1_000
_numbers = itertools.count(random.randrange(_PORTS))


@contextmanager
def running(arguments: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run an `embedmill` command that serves until it is told to stop; stop it in order at the end.

    Args:
        arguments: The command's words after `embedmill`; with `--port 0` or `--health-port 0` to be waited for.
        environment: Variables on top of this process's, and of those that leave nothing to be measured at a start.
        log: File of what it prints.
    """
    measured = {"EMBEDMILL_DTYPE": "float32", "EMBEDMILL_TOKEN_BUDGET": "1024"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "embedmill", *arguments],
            env={**os.environ, **measured, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"it did not stop within {_STOP} s:\n{log.read_text()[-3000:]}") from None


def free_port() -> int:
    """Return a TCP port of this machine that nobody listens on, and that nobody else is given soon.

    It lies below those that the kernel hands out, to servers on port 0 and to every connection that is opened: one of
    these would be taken by somebody before our server has started, or comes back.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for _ in range(_PORTS):
        port = 20_000 + _PORTS * (worker % 12) + next(_numbers) % _PORTS
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return as soon as `/readyz` says that a worker can serve."""
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"it did not become ready:\n{log.read_text()[-3000:]}")


def worker_pids(parent: int) -> list[int]:
    """Return the process ids of the worker processes under a supervisor."""
    return [pid for pid in children(parent) if b"worker.process" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def children(parent: int) -> list[int]:
    """Return the process ids of a process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found
