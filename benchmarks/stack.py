"""A stack of its own for a benchmark: `embedmill up` in a temporary folder, stopped and deleted afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: A first start may measure the machine, or export and calibrate a model.
_READY_TIMEOUT = 900.0

_STOP_TIMEOUT = 40.0


class StackRefused(Exception):
    """Raised when the program does not take the options; says why in one line."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack.

    Args:
        pid: The process that all others of the stack descend from.
        url: Where its service answers.
        data_dir: Where it keeps its data.
        database_url: Its database; None for the one in `data_dir`.
        seconds: How long it took to become ready.
    """

    pid: int
    url: str
    data_dir: Path
    database_url: str | None
    seconds: float


@contextmanager
def own_stack(options: Sequence[str], database_url: str | None = None, folder: Path | None = None) -> Iterator[Stack]:
    """Run a stack with the embedded Redis and no setting of the shell's.

    Args:
        options: Of `embedmill up`, such as `--dtype float32`.
        database_url: Its database; None for SQLite in the temporary folder.
        folder: Where the temporary folder is made; None for the system's place.

    Raises:
        StackRefused: When it does not become ready.
    """
    with tempfile.TemporaryDirectory(prefix="embedmill-bench-", dir=folder) as own:
        data_dir, log = Path(own) / "data", Path(own) / "stack.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        command = [sys.executable, "-m", "embedmill", "up", "--data-dir", str(data_dir), "--port", str(port), *options]
        command += ["--database-url", database_url] if database_url else []
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        start = time.monotonic()
        with log.open("wb") as output:
            # In a folder of its own, because a `.env` is read from where one stands.
            process = subprocess.Popen(command, cwd=own, env=_environment(), stdout=output, stderr=output)
        try:
            _wait_until_ready(process, port, log)
            yield Stack(process.pid, f"http://127.0.0.1:{port}", data_dir, database_url, time.monotonic() - start)
        finally:
            _stop(process)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("EMBEDMILL_")}


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    lines = log.read_text(errors="replace").strip().splitlines()
    told = next((line for line in reversed(lines) if line.strip(" │╰╭─╯")), "it ended without a word")
    raise StackRefused(told.strip(" │╰╭─╯"))


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()  # its children die with it
        process.wait()
