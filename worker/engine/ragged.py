"""Rows that lie end to end, some of them each text's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spans(starts: NDArray[np.integer], counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the places of some runs of rows, end to end.

    Args:
        starts: Where each run begins, shape (runs,).
        counts: How long each is, shape (runs,).
    """
    counts = counts.astype(np.int64)
    before = np.cumsum(counts) - counts
    places: NDArray[np.int64] = np.arange(int(counts.sum()), dtype=np.int64) + np.repeat(starts - before, counts)
    return places
