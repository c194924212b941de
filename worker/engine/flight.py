"""A batch on its way through an encoder: sent off without waiting, its vectors fetched once they are there.

A GPU works off what it is sent in order, so the next batch can be launched while this one is computed. On a CPU the
vectors are there as soon as the batch is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker import measures
from worker.engine.batching import Packing
from worker.engine.clock import Clock
from worker.engine.encoderlike import EncoderLike
from worker.engine.packed import Packed, upload
from worker.engine.pooling import Recipe, finish, pool
from worker.engine.ragged import spans
from worker.engine.window import Batch


class Vectors(NamedTuple):
    """The vectors of those rows of a batch that share a recipe.

    Args:
        recipe: How they were made.
        rows: Which encodings of the batch they are of; None means all.
        matrix: One vector an encoding, or the states of their tokens, end to end.
        counts: How many states each encoding has; None: it has one vector.
    """

    recipe: Recipe
    rows: NDArray[np.int64] | None
    matrix: NDArray[np.float32]
    counts: NDArray[np.int64] | None = None

    def of(self, picks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what belongs to some of these encodings, end to end."""
        if self.counts is None:
            return self.matrix[picks]
        starts = np.cumsum(self.counts) - self.counts
        return self.matrix[spans(starts[picks], self.counts[picks])]


class _Computed(NamedTuple):
    """The same while it is on the device."""

    recipe: Recipe
    rows: NDArray[np.int64] | None
    matrix: Tensor
    counts: NDArray[np.int64] | None


class Flight:
    """One batch, sent through an encoder.

    Args:
        batch: What is sent.
        encoder: Where through.
        width: Components of a vector before it is cut.
        hidden: Components of a token's state.
        pad_id: What a padded batch is filled up with.
    """

    def __init__(self, batch: Batch, encoder: EncoderLike, width: int, hidden: int, pad_id: int) -> None:
        self.batch = batch
        self._encoder = encoder
        self._width = width
        self._hidden = hidden
        self._pad_id = pad_id
        self._found: list[Vectors] | Exception
        try:
            self._clock = Clock(encoder.device)
            self._found = self._launch()
        except Exception as error:
            self._found = _without_trace(error)

    @property
    def has_failed(self) -> bool:
        """Whether it is known already that there will be no vectors."""
        return isinstance(self._found, Exception)

    def land(self) -> list[Vectors] | Exception:
        """Wait for the vectors and return them, recipe by recipe, or why there are none."""
        if isinstance(self._found, Exception):
            return self._found
        try:
            forward, copy = self._clock.read()
        except Exception as error:
            return _without_trace(error)
        measures.here.took("forward", forward)
        measures.here.took("copy", copy)
        return self._found

    def _launch(self) -> list[Vectors]:
        computed = list(self._compute())
        self._clock.mark()
        found = [Vectors(recipe, rows, _fetch(matrix), counts) for recipe, rows, matrix, counts in computed]
        self._clock.mark()
        return found

    def _compute(self) -> Iterator[_Computed]:
        states, offsets = self._states()
        for recipe, rows in self.batch.by_recipe():
            if recipe.each_token:
                yield self._token_states(states, recipe, rows)
                continue
            pooled = pool(states, offsets, recipe.pooling)
            if rows is not None:
                pooled = pooled.index_select(0, upload(rows, pooled.device))
            vectors = _of_width(self._encoder.project(pooled), self._width)
            yield _Computed(recipe, rows, finish(vectors, recipe), None)

    def _token_states(self, states: Tensor, recipe: Recipe, rows: NDArray[np.int64] | None) -> _Computed:
        lengths = self.batch.lengths.astype(np.int64)
        if rows is not None:
            starts = np.cumsum(lengths) - lengths
            lengths = lengths[rows]
            states = states.index_select(0, upload(spans(starts[rows], lengths), states.device))
        # A copy: an encoder may use the memory of its states for the next batch.
        kept = _of_width(states.to(torch.float32, copy=True), self._hidden)
        return _Computed(recipe, rows, kept, lengths)

    def _states(self) -> tuple[Tensor, Tensor]:
        """Return the states of all tokens, end to end, and where each text begins."""
        batch, encoder = self.batch, self._encoder
        packed = Packed.of(batch.flat(), batch.lengths, encoder.device)
        if batch.window.packing is not Packing.PADDED and encoder.packing is not Packing.PADDED:
            return encoder.forward_flat(packed, batch.window.lane.layer), packed.offsets
        ids, present = batch.padded(self._pad_id)
        mask = None if present is None else upload(present, encoder.device)
        states = encoder.forward(upload(ids, encoder.device), mask, batch.window.lane.layer).flatten(0, 1)
        if present is not None:
            states = states.index_select(0, upload(np.flatnonzero(present), encoder.device))
        return states, packed.offsets


def _of_width(vectors: Tensor, width: int) -> Tensor:
    """Return vectors, or as good as none where they are of another width: cutting them would hide it."""
    return vectors if vectors.shape[1] == width else vectors.new_full((len(vectors), width), float("nan"))


def _fetch(vectors: Tensor) -> NDArray[np.float32]:
    """Return an array that holds the vectors once the device has come so far."""
    if vectors.is_cuda:
        host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
        vectors = host.copy_(vectors, non_blocking=True)
    return vectors.numpy()


def _without_trace(error: Exception) -> Exception:
    """Return an error without what it was raised in: the tensors of this attempt, whose memory the next one needs."""
    return error.with_traceback(None)
