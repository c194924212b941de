"""The line between a worker process and its supervisor: children die with their parent, and show that they live."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from typing import Any

from worker import exits, measures

logger = logging.getLogger(__name__)

#: How often a process shows that it lives, in seconds.
BEAT = 1.0

#: A round of the thread that keeps a process in touch with the database lasts no longer than so, in seconds: each
#: statement has a limit, unless something between swallows that, as a pooler may whose server has vanished.
ROUND = 180.0

#: File descriptor, in the child, of the pipe that leads to its supervisor.
PIPE_VARIABLE = "EMBEDMILL_SUPERVISOR_PIPE"

#: Process id of the parent that a child is meant to have, in the child's environment.
PARENT_VARIABLE = "EMBEDMILL_PARENT"

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, however it dies; Linux only, elsewhere the pipe tells."""
    if not sys.platform.startswith("linux"):
        return
    parent = int(os.environ.pop(PARENT_VARIABLE, os.getppid()))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the kernel was asked.
    if os.getppid() != parent:
        os._exit(1)


class Supervisor:
    """A child's view of its supervisor; without one (a process started by hand) everything is a no-op."""

    def __init__(self) -> None:
        pipe = os.environ.pop(PIPE_VARIABLE, None)
        self._pipe = None if pipe is None else int(pipe)
        self._lock = threading.Lock()
        self._last_round: float | None = None

    def tell(self, **facts: Any) -> None:
        """Tell the supervisor something, such as `ready=True` or `error="..."`."""
        if self._pipe is None:
            return
        with self._lock:
            try:
                os.write(self._pipe, json.dumps(facts).encode() + b"\n")
            except BrokenPipeError:
                os._exit(1)

    def beat_for_ever(self) -> None:
        """Start a thread that shows every second that this process can run Python: a hang that holds the GIL cannot."""
        if self._pipe is not None:
            threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def in_touch(self) -> None:
        """Note that a round with the database is over; from the first one on, one that hangs ends this process."""
        self._last_round = time.monotonic()

    def _beat(self) -> None:
        while True:
            # What was measured since the last beat goes with it; empty where nothing was.
            self.tell(beat=True, measured=measures.here.take())
            before = time.monotonic()
            time.sleep(BEAT)
            self._judge_round(time.monotonic() - before)

    def _judge_round(self, slept: float) -> None:
        """End a process whose leases nobody extends any more, and whom nobody watches, for want of an answer.

        Args:
            slept: How long this thread has slept, in seconds; longer than it wanted to where the machine stood still.
        """
        last = self._last_round
        if last is None:
            return
        if slept > ROUND / 2:
            self._last_round = time.monotonic()
        elif time.monotonic() - last > ROUND:
            logger.error("the database has not answered for %.0f s, nor failed to: ending this process", ROUND)
            os._exit(exits.STORAGE_AWAY)


if __name__ == "__main__":
    # `python -m worker.parent PROGRAM ARGUMENTS`: become a program that dies with this one's parent.
    die_with_parent()
    os.execv(sys.argv[1], sys.argv[1:])
