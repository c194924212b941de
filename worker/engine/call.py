"""One call of `Engine.embed` on its way: its encodings, what came of them so far, and who waits for it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.contract.errors import EmbedmillError
from storage.outcomes import ItemError
from worker.engine.pooling import Recipe
from worker.engine.ragged import spans
from worker.engine.tokenizing import Encodings


@dataclass(frozen=True, slots=True)
class Embedded:
    """What became of texts, in the order they were given.

    Args:
        vectors: float32, shape (texts, width); a row of NaN where there is an error. Or, where there is no pooling, the
            states of all tokens of the texts that have no error, end to end.
        tokens: int32, shape (texts,): tokens the encoder read; 0 where it read none.
        lengths: int32, shape (texts,): tokens of the whole text before it was cut; more than `tokens` means truncated.
        errors: By place: why a text has no vector.
        each_token: Whether there was no pooling.
    """

    vectors: NDArray[np.float32]
    tokens: NDArray[np.int32]
    lengths: NDArray[np.int32]
    errors: dict[int, ItemError] = field(default_factory=dict)
    each_token: bool = False

    def at(self, places: NDArray[np.int64]) -> Embedded:
        """Return what became of the texts at some places, which may name one several times.

        Args:
            places: int64, shape (texts,).
        """
        errors = {new: self.errors[old] for new, old in enumerate(places.tolist()) if old in self.errors}
        rows = self._rows(places) if self.each_token else places
        return Embedded(self.vectors[rows], self.tokens[places], self.lengths[places], errors, self.each_token)

    def _rows(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        counts = self.tokens.astype(np.int64)
        counts[list(self.errors)] = 0
        return spans((np.cumsum(counts) - counts)[places], counts[places])


class Lane(NamedTuple):
    """What encodings must have in common to share a batch.

    Args:
        layer: Which hidden states are pooled.
        padded: Every encoding is padded to so many tokens; 0 pads to the longest of the batch.
        alone: Stands for the one call that is to have no company; 0 where calls may share.
    """

    layer: int
    padded: int
    alone: int = 0


class Call:
    """The state of one call; its encodings are numbered without those texts that had an error before.

    Args:
        encodings: The encodings of all texts, those with an error empty.
        errors: By place: why a text is not to be embedded.
        lane: What its encodings share with their batch.
        recipe: How its token states become vectors.
        urgent: Whether it goes before those that are not.
        width: Components of a vector, or of a token's state.
    """

    def __init__(
        self, encodings: Encodings, errors: dict[int, ItemError], lane: Lane, recipe: Recipe, urgent: bool, width: int
    ) -> None:
        self.lane = lane
        self.recipe = recipe
        self.urgent = urgent
        self.failure: EmbedmillError | None = None
        self.done = threading.Event()
        self._lengths = encodings.lengths
        self._errors = dict(errors)
        valid = np.ones(len(encodings.lengths), bool)
        valid[list(errors)] = False
        self._places = np.flatnonzero(valid)
        self._remaining = len(self._places)
        self._counting = threading.Lock()
        tokens = np.where(valid, encodings.tokens, 0).astype(np.int32)
        self._tokens = tokens
        self.ids = encodings.ids if valid.all() else encodings.ids[np.repeat(valid, encodings.tokens)]
        self.offsets = np.concatenate(([0], np.cumsum(tokens[self._places], dtype=np.int64)))
        rows = int(self.offsets[-1]) if recipe.each_token else len(encodings.lengths)
        self._vectors = np.full((rows, width), np.nan, np.float32)
        #: How many encodings have been taken out of the waiting room.
        self.taken = 0

    @property
    def size(self) -> int:
        """How many encodings there are."""
        return len(self._places)

    def deliver(self, numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Keep the vectors of some encodings.

        Args:
            numbers: Which encodings, shape (encodings,).
            vectors: Shape (encodings, width), or (tokens of these encodings, width) where there is no pooling.
        """
        self._vectors[self._rows(numbers) if self.recipe.each_token else self._places[numbers]] = vectors
        self._finish(len(numbers))

    def reject(self, number: int, error: ItemError, read: bool) -> None:
        """Keep why one encoding has no vector.

        Args:
            number: Which encoding.
            error: Why.
            read: Whether the encoder read it all the same.
        """
        place = int(self._places[number])
        self._errors[place] = error
        if not read:
            self._tokens[place] = 0
        self._finish(1)

    def fail(self, failure: EmbedmillError) -> None:
        """End the call as a whole, unless it is done already."""
        if not self.done.is_set():
            self.failure = failure
            self.done.set()

    def result(self) -> Embedded:
        """Wait for every encoding and return what became of the texts.

        Raises:
            EmbedmillError: When the call ended as a whole.
        """
        if self._remaining:
            self.done.wait()
        if self.failure is not None:
            raise self.failure
        vectors = self._vectors
        if self.recipe.each_token and self._errors:
            good = np.flatnonzero(~np.isin(self._places, list(self._errors)))
            vectors = vectors[self._rows(good)]
        return Embedded(vectors, self._tokens, self._lengths, self._errors, self.recipe.each_token)

    def _rows(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the states of some encodings lie."""
        return spans(self.offsets[numbers], self.offsets[numbers + 1] - self.offsets[numbers])

    def _finish(self, count: int) -> None:
        with self._counting:
            self._remaining -= count
            ended = self._remaining == 0
        if ended:
            self.done.set()
