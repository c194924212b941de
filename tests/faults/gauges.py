"""Memory and open descriptors of processes that live through a whole run: sampled, and how steeply they rise."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from tests.faults import processes

_MIB = 2**20


@dataclass
class Gauge:
    """One process.

    Args:
        name: What it is.
        pid: Its process id.
        samples: Seconds since the first, MiB in memory, open descriptors.
    """

    name: str
    pid: int
    samples: list[tuple[float, float, int]] = field(default_factory=list)
    _start: float = field(default_factory=time.monotonic)

    def sample(self) -> None:
        """Look once; a process that has ended is no longer looked at."""
        try:
            memory, descriptors = processes.memory_of(self.pid), processes.descriptors_of(self.pid)
        except OSError:
            return
        self.samples.append((time.monotonic() - self._start, memory / _MIB, descriptors))

    def facts(self, warm_up: float) -> dict[str, float]:
        """Return what is to be told of it; grown is the most of the second half over the most of the first.

        Args:
            warm_up: Seconds at the beginning that do not count for the slopes.
        """
        rows = np.array([row for row in self.samples if row[0] >= warm_up] or self.samples)
        slopes, half = _slopes(rows), max(1, len(rows) // 2)
        return {
            "samples": len(rows),
            "first_mib": round(float(rows[0, 1]), 1),
            "last_mib": round(float(rows[-1, 1]), 1),
            "max_mib": round(float(rows[:, 1].max()), 1),
            "grown_mib": round(float(rows[-half:, 1].max() - rows[:half, 1].max()), 1),
            "mib_per_hour": slopes[0],
            "max_descriptors": int(rows[:, 2].max()),
            "grown_descriptors": int(rows[-half:, 2].max() - rows[:half, 2].max()),
            "descriptors_per_hour": slopes[1],
        }


def _slopes(rows: np.ndarray) -> tuple[float, float]:
    """Return the slopes of the straight lines that fit memory and descriptors best, an hour."""
    if len(rows) < 3:
        return 0.0, 0.0
    hours = rows[:, 0] / 3600
    return round(float(np.polyfit(hours, rows[:, 1], 1)[0]), 2), round(float(np.polyfit(hours, rows[:, 2], 1)[0]), 2)


class Gauges:
    """Several of them, looked at together every so many seconds.

    Args:
        every: Seconds between two samples.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._due = 0.0
        self._all: dict[str, Gauge] = {}

    def add(self, name: str, pid: int) -> None:
        """Watch one more process; of a name that is known already, go on with the new one."""
        if name not in self._all or self._all[name].pid != pid:
            self._all[name] = Gauge(name, pid)

    def look(self) -> None:
        """Take samples if they are due."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._every
            for gauge in self._all.values():
                gauge.sample()

    def facts(self, warm_up: float = 0.0) -> dict[str, dict[str, float]]:
        """Return what is to be told of each, by name."""
        return {name: gauge.facts(warm_up) for name, gauge in self._all.items() if gauge.samples}
