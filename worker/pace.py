"""Measures how fast this process embeds, to know how much work fits into one message's turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: What one message's work should take, in seconds: long against a message's cost, short against a person's patience.
_TURN = 0.3

#: Weight of the newest measurement.
_WEIGHT = 0.3


@dataclass
class Measure:
    """Tokens embedded while it was taken."""

    tokens: int = 0


class Pace:
    """Tokens a second of the whole process, from turns that overlap."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._rate = 0.0

    def room(self) -> int:
        """Return how many tokens one turn should take; 0 before anything was measured."""
        return int(self._rate * _TURN)

    @contextmanager
    def measuring(self) -> Iterator[Measure]:
        """Measure a turn; its tokens are told at the end."""
        with self._lock:
            self._running += 1
            beside = self._running
        measure, start = Measure(), time.monotonic()
        try:
            yield measure
        finally:
            seconds = max(time.monotonic() - start, 1e-6)
            with self._lock:
                self._running -= 1
                if measure.tokens:
                    rate = measure.tokens * beside / seconds
                    self._rate += _WEIGHT * (rate - self._rate) if self._rate else rate
