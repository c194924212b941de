"""How durations are spread: counted in classes, as Prometheus' histograms are."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Upper ends of the classes, in seconds; what is longer has a class of its own.
BOUNDS = (0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0)


@dataclass(slots=True)
class Spread:
    """Durations, counted.

    Args:
        seconds: Their sum.
        counts: How many fell into each class, shape (bounds + 1,).
    """

    seconds: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def add(self, seconds: float) -> None:
        """Count one more duration."""
        self.seconds += seconds
        self.counts[bisect_left(BOUNDS, seconds)] += 1

    def merge(self, seconds: float, counts: Sequence[int]) -> None:
        """Count what another has counted."""
        self.seconds += seconds
        self.counts = [own + more for own, more in zip(self.counts, counts, strict=True)]
