"""Batches of built-in texts, and how near two networks' vectors of them are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from worker.engine.batching import plan
from worker.engine.checkpoint import Checkpoint
from worker.engine.pooling import pool
from worker.engine.tokenizing import Tokenizer

#: Tokens of a batch, padding included.
_BUDGET = 1024


class Sample(NamedTuple):
    """One batch; ids and mask are int64, shape (texts, tokens), the mask 1 where there is a token."""

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Nearness:
    """Cosines of vectors to those that float32 gives the same texts.

    Args:
        mean: Over all texts.
        least: Of the text that lost most.
    """

    mean: float
    least: float


class Sampler:
    """Makes samples of texts.

    Args:
        checkpoint: Whose tokenizer, and longest text.
        vocabulary: How many ids the weights know.
    """

    def __init__(self, checkpoint: Checkpoint, vocabulary: int) -> None:
        self._tokenizer = Tokenizer(checkpoint)
        self._longest = checkpoint.max_length
        self._vocabulary = vocabulary
        #: The id that fills up.
        self.padding = self._tokenizer.pad_id if self._tokenizer.pad_id < vocabulary else 0

    def samples(self, texts: list[str]) -> list[Sample]:
        """Return padded batches of texts of like length; texts with ids that the weights do not know are left out."""
        found = self._tokenizer.encode(texts, self._longest)
        rows = [found.ids[start:end] for start, end in pairwise(found.offsets.tolist()) if end > start]
        known = [row for row in rows if int(row.max()) < self._vocabulary]
        batches = plan(np.array([len(row) for row in known], np.int64), _BUDGET)
        return [self._padded([known[pick] for pick in picks]) for picks in batches]

    def _padded(self, rows: list[NDArray[np.int32]]) -> Sample:
        longest = max(map(len, rows))
        ids = np.full((len(rows), longest), self.padding, np.int64)
        mask = np.zeros((len(rows), longest), np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return Sample(ids, mask)


def pooled(states_of: Callable[[Sample], Tensor], batches: Iterable[Sample], pooling: str) -> Tensor:
    """Return normalised vectors of all texts, batch by batch, shape (texts, components).

    Args:
        states_of: A network: the token states of a batch.
        batches: What to send through it.
        pooling: `mean`, `cls`, `max` or `last`.
    """
    vectors = []
    for batch in batches:
        present = torch.from_numpy(batch.mask).bool()
        offsets = functional.pad(present.sum(1).cumsum(0), (1, 0)).int()
        vectors.append(pool(states_of(batch)[present], offsets, pooling))
    return functional.normalize(torch.cat(vectors), dim=1)


def nearness(found: Tensor, wanted: Tensor) -> Nearness:
    """Compare normalised vectors, row by row; a vector that is not finite is as far off as can be."""
    cosines = (found.double() * wanted.double()).sum(1).nan_to_num(-1, -1, -1)
    return Nearness(float(cosines.mean()), float(cosines.min()))
