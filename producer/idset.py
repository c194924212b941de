"""Remembers which callers' ids a submission has seen, in at most 16 bytes an id however many there are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Hashes kept in a plain set before they are sorted away; bounds the set at some megabytes.
_RECENT = 65_536


class IdSet:
    """A growing set of 64-bit hashes: a small set of recent ones, and sorted runs that are merged as they grow.

    Runs are merged when a newer one has reached half the size of the older, so that there are few of them and each hash
    is copied a logarithmic number of times (a log-structured merge, O'Neil et al. 1996).
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._runs: list[NDArray[np.uint64]] = []

    def __len__(self) -> int:
        return len(self._recent) + sum(len(run) for run in self._runs)

    def add(self, hashes: NDArray[np.uint64]) -> list[int]:
        """Add hashes.

        Args:
            hashes: Shape (n,), of ids in the order they came.

        Returns:
            Positions in `hashes` of those that were there before, in earlier calls or earlier in this one.
        """
        seen = np.zeros(len(hashes), dtype=bool)
        for run in self._runs:
            places = np.searchsorted(run, hashes)
            seen |= run[np.minimum(places, len(run) - 1)] == hashes
        for position, value in enumerate(hashes.tolist()):
            if value in self._recent:
                seen[position] = True
            elif not seen[position]:
                self._recent.add(value)
        if len(self._recent) >= _RECENT:
            self._fold()
        return np.flatnonzero(seen).tolist()

    def _fold(self) -> None:
        run = np.fromiter(self._recent, dtype=np.uint64, count=len(self._recent))
        run.sort()
        self._recent.clear()
        while self._runs and len(run) * 2 >= len(self._runs[-1]):
            run = np.concatenate((self._runs.pop(), run))
            run.sort(kind="stable")
        self._runs.append(run)
