"""Whose batch is worked at next: keys take turns, and a batch that was refused for now has to wait."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from storage.batches import BatchStore
from storage.batchrecords import Batch

#: What is known of the batches is read again when it is so old, in seconds: work at one may take minutes.
_FRESH = 1.0

#: Longest wait of a batch that was refused, in seconds: there may be room sooner than was thought.
_LONGEST = 60.0


class Turns:
    """Chooses batches; one process has one, and what it remembers is lost with it, which costs a try each.

    Args:
        batches: Where they are.
    """

    def __init__(self, batches: BatchStore) -> None:
        self._batches = batches
        #: How often a batch was refused in a row, and when it is its turn again.
        self._refused: dict[str, tuple[int, float]] = {}
        #: Whether there was a batch, at the last look, that nobody else works at.
        self.are_left = False

    def round(self) -> Iterator[Batch]:
        """Yield each batch that something can be done for now, once: of keys with equally many turns the oldest."""
        seen: set[str] = set()
        turns: Counter[str] = Counter()
        looked, due = time.monotonic(), self._due(seen)
        while due:
            batch = min(due, key=lambda one: (turns[one.key_id], one.id))
            due.remove(batch)
            seen.add(batch.id)
            turns[batch.key_id] += 1
            yield batch
            if time.monotonic() - looked >= _FRESH:
                looked, due = time.monotonic(), self._due(seen)

    def wait(self, batch_id: str, seconds: float) -> None:
        """Have a batch that was refused wait: as long as was said, and each time longer.

        Args:
            batch_id: The batch.
            seconds: After which there may be room.
        """
        times, _ = self._refused.get(batch_id, (0, 0.0))
        pause = min(max(seconds, 2.0 ** min(times, 16)), _LONGEST)
        self._refused[batch_id] = (times + 1, time.monotonic() + pause)

    def forget(self, batch_id: str) -> None:
        """Forget that a batch was refused: it has come further."""
        self._refused.pop(batch_id, None)

    def _due(self, seen: set[str]) -> list[Batch]:
        found = list(self._batches.unfinished())
        self.are_left = bool(found)
        self._refused = {one.id: self._refused[one.id] for one in found if one.id in self._refused}
        busy = self._batches.busy() if found else set()
        return [batch for batch in found if batch.id not in seen and not self._waits(batch, busy)]

    def _waits(self, batch: Batch, busy: set[str]) -> bool:
        if batch.cancelling_at is not None:
            return False
        if batch.state == "in_progress" and batch.id in busy and not batch.is_over:
            return True
        return batch.id in self._refused and self._refused[batch.id][1] > time.monotonic()
