"""Texts laid end to end on a device, as networks that compute no padding take them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.engine.buckets import Bucket, blocks_are_fast, buckets_of


@dataclass(frozen=True)
class Packed:
    """The encodings of a batch, end to end.

    Args:
        ids: int32 on the device, shape (tokens,).
        positions: int32 on the device, shape (tokens,): the place of each token in its text, counted from 0.
        offsets: int32 on the device, shape (texts + 1,): where each text begins, and where the last one ends.
        lengths: Tokens of each text, on the host.
    """

    ids: Tensor
    positions: Tensor
    offsets: Tensor
    lengths: list[int]

    @classmethod
    def of(cls, ids: NDArray[np.integer], lengths: NDArray[np.integer], device: torch.device) -> Packed:
        """Bring encodings to a device, all in one copy.

        Args:
            ids: The ids of all texts, shape (tokens,).
            lengths: Tokens of each text, shape (texts,), at least 1.
            device: Where to.
        """
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        positions = np.arange(len(ids)) - np.repeat(offsets[:-1], lengths)
        whole = upload(np.concatenate([ids, positions, offsets], dtype=np.int32, casting="same_kind"), device)
        return cls(whole[: len(ids)], whole[len(ids) : -len(offsets)], whole[-len(offsets) :], lengths.tolist())

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(self.lengths)

    @cached_property
    def runs(self) -> list[tuple[int, int, int]]:
        """Neighbours of equal length: first token, number of texts, and tokens of each."""
        runs, start = [], 0
        for tokens, texts in itertools.groupby(self.lengths):
            count = len(list(texts))
            runs.append((start, count, tokens))
            start += count * tokens
        return runs

    @cached_property
    def buckets(self) -> list[Bucket]:
        """Neighbours of about equal length, for attention on a CPU."""
        return buckets_of(self.lengths, blocks_are_fast())

    def places(self, padding: int | None) -> Tensor:
        """Return which row of a table of positions belongs to each token, shape (tokens,).

        Args:
            padding: RoBERTa's families count from the one after this id, and not those tokens that have it, also where
                it stands within a text; None counts every token from 0.
        """
        if padding is None:
            return self.positions
        real = self.ids != padding
        counted = real.cumsum(0)
        before = (counted - real.long()).index_select(0, self.offsets[:-1])
        before = before.repeat_interleave(self.offsets.diff(), output_size=len(self.ids))
        return (counted - before) * real + padding


def upload(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Bring an array to a device; a GPU fetches it by itself, from memory that stays in place until it has.

    Args:
        array: Contiguous and writable.
        device: Where to.
    """
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
