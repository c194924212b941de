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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_READY_TIMEOUT = 180.0
_STOP_TIMEOUT = 40.0


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack.

    Args:
        pid: The process that all others of the stack descend from.
        data_dir: Where it keeps its data.
    """

    pid: int
    data_dir: Path


@contextmanager
def own_stack() -> Iterator[Stack]:
    """Run a stack that computes in float32, with SQLite and the embedded Redis, and no setting of the shell's.

    Raises:
        RuntimeError: When it does not become ready; says the end of its log.
    """
    with tempfile.TemporaryDirectory(prefix="embedmill-bench-") as folder:
        data_dir, log = Path(folder) / "data", Path(folder) / "stack.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EMBEDMILL_")}
        command = [sys.executable, "-m", "embedmill", "up", "--data-dir", str(data_dir), "--port", str(port)]
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        with log.open("wb") as output:
            # In a folder of its own, because a `.env` is read from where one stands.
            process = subprocess.Popen(
                [*command, "--dtype", "float32"], cwd=folder, env=environment, stdout=output, stderr=output
            )
        try:
            _wait_until_ready(process, port, log)
            yield Stack(process.pid, data_dir)
        finally:
            _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"The stack did not become ready:\n{log.read_text(errors='replace')[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()  # its children die with it
        process.wait()
