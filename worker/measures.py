"""What a process measures of its own work, until its supervisor has been told.

A child tells with each sign of life what it has measured since the last; its supervisor adds up what all starts of a
slot have told. A child that is killed takes its last second with it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from storage.spreads import Spread

#: Parts of a text's way through a worker, in their order, and what one duration is of.
STAGES = {
    "claim": "one message",
    "read": "the texts of one message",
    "tokenize": "the texts of one message",
    "forward": "one batch",
    "copy": "one batch",
    "write": "one message",
}

#: What is counted, and what it says.
COUNTS = {
    "worker_chunks": "Chunks committed",
    "worker_texts": "Texts committed with a vector",
    "worker_texts_failed": "Texts committed with an error",
    "worker_tokens": "Tokens read of committed texts",
    "batches": "Batches that went through the encoder",
    "batch_tokens": "Tokens in batches, padding left out",
    "batch_padding_tokens": "Padding in batches",
    "batch_room_tokens": "Tokens that batches had room for, by the budget of their time",
    "worker_storage_full": "Writes refused because the database's disk was full",
    "reconciler_sweeps": "Sweeps of this machine's reconciler while it led",
    "reconciler_sweep_seconds": "Time that those took",
    "reconciler_storage_full": "Writes of this machine's reconciler refused because the database's disk was full",
}


_watching = threading.local()


class Measures:
    """Counts and durations, from any thread."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.stages: dict[str, Spread] = {}
        #: Counts since this process began, which nobody takes away.
        self.totals: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, **numbers: float) -> None:
        """Count things.

        Args:
            **numbers: How many, by names of `COUNTS`.
        """
        with self._lock:
            self.counts.update(numbers)
            self.totals.update(numbers)

    def took(self, stage: str, seconds: float) -> None:
        """Note how long one piece of work took.

        Args:
            stage: One of `STAGES`.
            seconds: Its duration.
        """
        with self._lock:
            self.stages.setdefault(stage, Spread()).add(seconds)

    @contextmanager
    def taking(self, stage: str) -> Iterator[None]:
        """Note how long a block takes that comes to its end.

        Args:
            stage: One of `STAGES`.
        """
        begin = time.perf_counter()
        with piece(stage):
            yield
        self.took(stage, time.perf_counter() - begin)

    def take(self) -> dict[str, Any]:
        """Return what was measured since the last time, as JSON can hold it; empty where nothing was."""
        with self._lock:
            counts, stages = dict(self.counts), {name: [s.seconds, s.counts] for name, s in self.stages.items()}
            self.counts, self.stages = Counter(), {}
        return {"counts": counts, "stages": stages} if counts or stages else {}

    def merge(self, taken: Mapping[str, Any]) -> None:
        """Add what another has taken."""
        with self._lock:
            self.counts.update(taken["counts"])
            for stage, (seconds, counts) in taken["stages"].items():
                self.stages.setdefault(stage, Spread()).merge(seconds, counts)


#: Those of this process.
here = Measures()


def watch(note: Callable[[str, int, int], None] | None) -> None:
    """Have somebody told of every piece of work that this thread does.

    Args:
        note: Called with its name, beginning and end, in nanoseconds since 1970; None: nobody.
    """
    _watching.note = note


@contextmanager
def piece(name: str) -> Iterator[None]:
    """Tell who watches this thread what the block does, when it comes to its end."""
    note = getattr(_watching, "note", None)
    if note is None:
        yield
        return
    begin = time.time_ns()
    yield
    note(name, begin, time.time_ns())
