"""How often the engine had to defend itself, for whoever shows it to people."""

from __future__ import annotations

import threading
from collections import Counter


class Tally:
    """Counts by name, from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, name: str) -> None:
        """Count that something happened once more.

        Args:
            name: What.
        """
        with self._lock:
            self._counts[name] += 1

    def show(self) -> Counter[str]:
        """Return what was counted since the last `take`."""
        with self._lock:
            return Counter(self._counts)

    def take(self) -> Counter[str]:
        """Return what was counted since the last time, and begin anew."""
        with self._lock:
            taken = Counter(self._counts)
            self._counts.clear()
        return taken
