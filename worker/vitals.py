"""How a worker process is: how fast, how full its batches, how large. Looked at apart from its heartbeat."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

import psutil

from storage.pulses import WINDOW, Pulse
from worker import measures
from worker.measures import Measures

logger = logging.getLogger(__name__)


class Vitals:
    """Looks again and again, in a thread of its own: a driver that hangs must not hold up leases.

    Args:
        device_memory: Returns the bytes in use on the device and those that there are; None where it has none.
        interval: Seconds between two looks.
        measured: What this process has measured.
        resident: Returns the bytes of memory that the process occupies.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        device_memory: Callable[[], tuple[int, int] | None],
        interval: float,
        measured: Measures = measures.here,
        resident: Callable[[], int] = lambda: int(psutil.Process().memory_info().rss),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device_memory = device_memory
        self._interval = interval
        self._measured = measured
        self._resident = resident
        self._clock = clock
        #: Moments of the last window, and what had been counted then.
        self._seen = deque([(clock(), Counter(measured.totals))])
        #: What the last look found; None before the first.
        self.latest: Pulse | None = None

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._look_for_ever, name="vitals", daemon=True).start()

    def _look_for_ever(self) -> None:
        while True:
            try:
                self.look()
            except Exception:
                # Nobody's work depends on it.
                logger.debug("this process's vitals could not be read", exc_info=True)
            time.sleep(self._interval)

    def look(self) -> None:
        """Look once."""
        now, counts = self._clock(), Counter(self._measured.totals)
        while len(self._seen) > 1 and now - self._seen[1][0] >= WINDOW:
            self._seen.popleft()
        then, before = self._seen[0]
        self._seen.append((now, counts))
        done = {name: counts[name] - before[name] for name in counts}
        tokens, padding = done.get("batch_tokens", 0), done.get("batch_padding_tokens", 0)
        room = done.get("batch_room_tokens", 0)
        used, total = self._device_memory() or (None, None)
        self.latest = Pulse(
            tokens_per_second=round(done.get("worker_tokens", 0) / max(now - then, 1.0), 1),
            batch_fill=round((tokens + padding) / room, 4) if room else None,
            padding_share=round(padding / (tokens + padding), 4) if tokens + padding else None,
            memory=self._resident(),
            gpu_memory=used,
            gpu_memory_total=total,
        )
