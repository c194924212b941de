"""Remembers which callers' ids a submission has seen, in at most 16 bytes an id however many there are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: A run is merged with the one before it unless that is more than so many times as long.
_STEP = 8


class IdSet:
    """A growing set of 64-bit hashes, kept as a few sorted runs of very different lengths.

    There are few runs to look into, and each hash is copied a logarithmic number of times (a log-structured merge,
    O'Neil et al. 1996).
    """

    def __init__(self) -> None:
        self._runs: list[NDArray[np.uint64]] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def add(self, hashes: NDArray[np.uint64]) -> list[int]:
        """Add hashes; a thousand at once are found several times as fast as one by one.

        Args:
            hashes: Shape (n,), of ids in the order they came.

        Returns:
            Positions in `hashes` of those that were there before, in earlier calls or earlier in this one.
        """
        # Stable, so that of equal ones the first to come stays first; sorted, so that neighbours are near in a run too.
        order = np.argsort(hashes, kind="stable")
        values = hashes[order]
        seen = np.zeros(len(values), dtype=bool)
        seen[1:] = values[1:] == values[:-1]
        for run in self._runs:
            places = np.searchsorted(run, values)
            seen |= run[np.minimum(places, len(run) - 1)] == values
        self._keep(values[~seen])
        return sorted(order[seen].tolist())

    def _keep(self, run: NDArray[np.uint64]) -> None:
        if not len(run):
            return
        while self._runs and len(run) * _STEP >= len(self._runs[-1]):
            run = np.concatenate((self._runs.pop(), run))
            run.sort(kind="stable")  # merges what is sorted already
        self._runs.append(run)
