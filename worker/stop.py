"""A request to stop, as a signal makes it."""

from __future__ import annotations

import os
import select
import signal
import weakref
from collections.abc import Callable
from types import FrameType


class Stop:
    """Made once, and waited for by any number of threads.

    Unlike `threading.Event` it takes no lock: a handler runs in the midst of whatever the main thread does, and would
    wait for ever for a lock which that thread holds.
    """

    def __init__(self) -> None:
        self._asked = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        weakref.finalize(self, _close, self._reader, self._writer)

    def is_set(self) -> bool:
        """Whether it was made."""
        return self._asked

    def set(self) -> None:
        """Make it; from a signal handler, too."""
        if not self._asked:
            self._asked = True
            # Nobody reads it: whoever waits now or later wakes up.
            os.write(self._writer, b".")

    def wait(self, seconds: float) -> bool:
        """Wait for it, for some seconds at most; return whether it was made."""
        if not self._asked:
            # One for each wait: no two threads may share one.
            poll = select.poll()
            poll.register(self._reader, select.POLLIN)
            poll.poll(seconds * 1000)
        return self._asked


def on_signals(stop: Callable[[], object]) -> None:
    """Have SIGTERM, SIGINT and SIGHUP (the terminal is gone) call a function; `nohup`'s wish is kept.

    Args:
        stop: Takes no lock.
    """

    def handle(signum: int, frame: FrameType | None) -> None:
        stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)


def _close(*numbers: int) -> None:
    for number in numbers:
        os.close(number)
