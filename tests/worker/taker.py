"""A real Celery worker with all of our settings, whose task only notes what it takes.

Run as a program: what it notes goes into the file named by the first argument, and while the file named by the second
is missing, tasks do not end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.contract.models import Priority, queue_name

MODEL, MODEL_ID = "mill/grain", "0123456789abcdef"
BULK, URGENT = (queue_name(MODEL, MODEL_ID, priority) for priority in (Priority.BULK, Priority.URGENT))


class Taker:
    """The running worker, as a test sees it.

    Args:
        process: The worker.
        folder: Where its notes and its log lie.
    """

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self._folder = folder

    def notes(self, word: str) -> list[int]:
        """Return the chunks of which it noted that, in order: `taken` from Redis, `began` or `ended`."""
        lines = (self._folder / "notes").read_text().splitlines() if (self._folder / "notes").exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith(word)]

    def log(self) -> str:
        """Return what it logged."""
        return (self._folder / "log").read_text()

    def unreadable(self) -> int:
        """Stop it in order, and return how many messages it counted as unreadable."""
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0, self.log()
        return self.notes("unreadable")[-1]

    def hold(self) -> None:
        """Let no task end from now on."""
        (self._folder / "go").unlink()

    def let_go(self) -> None:
        """Let tasks end."""
        (self._folder / "go").touch()

    def wait(self, what: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()[-3000:]
            time.sleep(0.02)


@contextmanager
def taking(redis_url: str, folder: Path) -> Iterator[Taker]:
    """Run the worker until the block ends."""
    folder.mkdir(exist_ok=True)
    (folder / "go").touch()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.worker.taker", str(folder / "notes"), str(folder / "go")],
            env={**os.environ, "EMBEDMILL_REDIS_URL": redis_url, "EMBEDMILL_DATA_DIR": str(folder)},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield Taker(process, folder)
    finally:
        process.kill()
        process.wait()


class _Notes:
    """What takes the place of embedding."""

    def __init__(self, notes: Path, go: Path) -> None:
        self._notes = notes.open("a", buffering=1)
        self._go = go
        self._lock = threading.Lock()

    def note(self, word: str, number: int) -> None:
        with self._lock:
            self._notes.write(f"{word} {number}\n")

    def run(self, pointer: object) -> None:
        chunk = pointer.chunk  # type: ignore[attr-defined]
        self.note("began", chunk)
        while not self._go.exists():
            time.sleep(0.02)
        self.note("ended", chunk)


def main() -> None:
    """Consume as a worker process does."""
    import warnings

    from celery.signals import task_received

    from storage import counters, logs
    from worker import tasks
    from worker.app import app
    from worker.reserve import STRATEGY, TASK_THREADS

    logs.configure("INFO", "worker")
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    options = {"queue_order_strategy": STRATEGY, "polling_interval": 0.2}
    app.conf.broker_transport_options = app.conf.broker_transport_options | options
    notes = _Notes(Path(sys.argv[1]), Path(sys.argv[2]))
    tasks.serve(notes)  # type: ignore[arg-type]
    # Threads begin in any order; that of the taking is the consumer's.
    task_received.connect(lambda request, **_: notes.note("taken", request.kwargs["chunk"]), weak=False)
    worker = app.Worker(
        pool="threads",
        concurrency=TASK_THREADS,
        queues=[URGENT, BULK],
        without_gossip=True,
        without_mingle=True,
        quiet=True,
        loglevel="INFO",
    )
    worker.start()
    notes.note("unreadable", counters.take()["messages_unreadable"])
    sys.exit(worker.exitcode or 0)


if __name__ == "__main__":
    main()
