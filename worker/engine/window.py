"""Encodings of several calls, taken together to be divided into batches, and those batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.engine.batching import Packing, plan
from worker.engine.call import Call, Lane
from worker.engine.pooling import Recipe
from worker.engine.ragged import spans


class Window:
    """Encodings of one lane, laid end to end.

    Args:
        parts: Calls of the same lane, each with the range of its encodings that are meant.
        packing: How the encoder takes batches, unless the lane asks for padding.
    """

    def __init__(self, parts: Sequence[tuple[Call, int, int]], packing: Packing = Packing.PADDED) -> None:
        self.calls = [call for call, _, _ in parts]
        self.lane: Lane = self.calls[0].lane
        self.packing = Packing.PADDED if self.lane.padded else packing
        counts = [end - start for _, start, end in parts]
        self.owners = np.repeat(np.arange(len(parts)), counts)
        self.numbers = np.concatenate([np.arange(start, end) for _, start, end in parts])
        self.lengths = np.concatenate([np.diff(call.offsets[start : end + 1]) for call, start, end in parts])
        self.ids = np.concatenate([call.ids[call.offsets[start] : call.offsets[end]] for call, start, end in parts])
        self.starts = np.cumsum(self.lengths) - self.lengths

    def batches(self, budget: int) -> list[Batch]:
        """Divide the window into batches.

        Args:
            budget: Most tokens of a batch, padding included.
        """
        padded = np.maximum(self.lengths, self.lane.padded)
        return [Batch(self, picks) for picks in plan(padded, budget, self.packing)]


@dataclass(frozen=True, slots=True)
class Batch:
    """Encodings that go through the encoder in one forward pass.

    Args:
        window: Where they lie.
        picks: Which of the window's encodings, shape (encodings,).
    """

    window: Window
    picks: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.picks)

    @property
    def longest(self) -> int:
        """Tokens of the longest encoding, or how many all are padded to."""
        return max(int(self.lengths.max()), self.window.lane.padded)

    @property
    def tokens(self) -> int:
        """How many tokens go through the encoder, padding included."""
        if self.window.packing in (Packing.PADDED, Packing.STEPPED):
            return self.longest * len(self)
        return int(self.lengths.sum())

    @property
    def lengths(self) -> NDArray[np.integer]:
        """Tokens of each encoding."""
        return np.asarray(self.window.lengths[self.picks])

    def flat(self) -> NDArray[np.integer]:
        """Return the ids of all encodings, end to end."""
        return np.asarray(self.window.ids[spans(self.window.starts[self.picks], self.lengths)])

    def padded(self, pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        """Return the ids, filled up at their ends, and the mask.

        Args:
            pad_id: What to fill up with.

        Returns:
            Ids and mask, both of shape (encodings, longest); the mask is true where there is a token, and None where
            there is one everywhere.
        """
        window, places = self.window, np.arange(self.longest)
        mask = places < self.lengths[:, None]
        wanted = np.minimum(window.starts[self.picks, None] + places, len(window.ids) - 1)
        ids = window.ids[wanted].astype(np.int64)
        if mask.all():
            return ids, None
        ids[~mask] = pad_id
        return ids, mask

    def halves(self) -> tuple[Batch, Batch]:
        """Return two batches of about half as many encodings."""
        middle = len(self.picks) // 2
        return Batch(self.window, self.picks[:middle]), Batch(self.window, self.picks[middle:])

    def only(self, rows: NDArray[np.integer]) -> Batch:
        """Return the batch of some of its rows."""
        return Batch(self.window, self.picks[rows])

    def by_recipe(self) -> Iterator[tuple[Recipe, NDArray[np.int64] | None]]:
        """Yield every recipe of the batch's calls and its rows; None means all rows."""
        calls, owners = self.window.calls, self.window.owners[self.picks]
        present = np.unique(owners)
        recipes = {calls[owner].recipe for owner in present}
        for recipe in recipes:
            meant = [owner for owner in present if calls[owner].recipe == recipe]
            yield recipe, None if len(recipes) == 1 else np.flatnonzero(np.isin(owners, meant))

    def by_call(self) -> Iterator[tuple[Call, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield every call of the batch with its rows here and the numbers of its encodings."""
        owners = self.window.owners[self.picks]
        for owner in np.unique(owners):
            rows = np.flatnonzero(owners == owner)
            yield self.window.calls[owner], rows, self.window.numbers[self.picks[rows]]
