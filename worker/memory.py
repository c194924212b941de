"""Watches how far a worker process has grown; one that has grown too far stops in order and is started anew."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable

import psutil

from storage import counters
from worker.watches import Ending

logger = logging.getLogger(__name__)

_MIB = 2**20


class MemoryWatch:
    """Remembers how large the process was when it was warm.

    Args:
        most_growth: MiB that it may grow beyond that; 0 never ends it.
        stop: Asks the process to stop in order: running chunks finish, nothing is charged to them.
        resident: Returns the bytes of memory that the process occupies.
    """

    def __init__(
        self,
        most_growth: int,
        stop: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGTERM),
        resident: Callable[[], int] = lambda: int(psutil.Process().memory_info().rss),
    ) -> None:
        self._most_growth = most_growth
        self._stop = stop
        self._resident = resident
        self._warm = resident()
        self._stopping = False

    def __call__(self) -> Ending | None:
        """Ask the process to stop when it has grown too far; never ends it at once."""
        growth = (self._resident() - self._warm) // _MIB
        if self._most_growth and growth > self._most_growth and not self._stopping:
            self._stopping = True
            logger.error("this process has grown by %d MiB: it stops in order and is started anew", growth)
            counters.count("workers_outgrown")
            self._stop()
        return None
