"""What became of items: a vector, an error, or cancelled; or nothing yet. One page holds those of one chunk."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from storage import vectors
from storage.contract.errors import WrongState


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item has no vector.

    Args:
        code: Stable word: `invalid_item`, `too_long`, `tokenizer_failed`, `encoder_failed`, `bad_vector`, `poison`.
        message: One sentence; never contains the text.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One item and what became of it.

    Args:
        position: Place in the job, from 0.
        id: The caller's id, or None where none was given.
        status: `succeeded`, `failed`, `cancelled` or `pending`.
        vector: Shape (width,), read-only, of the type that the job keeps: float32, or float16 where its `store_dtype`
            says so; None unless succeeded.
        tokens: Tokens the encoder read, special tokens included.
        truncated: Whether the text had more tokens than were read.
        error: Why it failed, or None.
    """

    position: int
    id: str | None
    status: str
    vector: NDArray[np.floating] | None
    tokens: int
    truncated: bool
    error: ItemError | None


@dataclass(frozen=True, slots=True)
class Page:
    """The outcomes of one chunk, in submission order.

    Args:
        first: Position of the chunk's first item in the job.
        size: Number of items.
        rest: What items with neither vector nor error are: `pending` or `cancelled`.
        width: Components of a vector; 0 when `vectors` is None.
        dtype: `float32` or `float16`.
        vectors: `size * width` components, row i is item `first + i`, NaN where there is no vector; None before any.
            With `each_token`, the states of all tokens of the items that have no error, end to end.
        tokens: int32, shape (size,): tokens the encoder read; 0 where it read none.
        lengths: int32, shape (size,): tokens of the whole text before it was cut; more than `tokens` means truncated.
        ids: The callers' ids, or None when the job has none.
        errors: By position within the chunk.
        each_token: Whether there was no pooling, as a call may ask.
    """

    first: int
    size: int
    rest: str
    width: int
    dtype: str
    vectors: bytes | None
    tokens: NDArray[np.int32]
    lengths: NDArray[np.int32]
    ids: list[str] | None
    errors: dict[int, ItemError] = field(default_factory=dict)
    each_token: bool = False

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """Which items were cut and read all the same, shape (size,)."""
        return (self.lengths > self.tokens) & (self.tokens > 0)

    def matrix(self) -> NDArray[np.floating] | None:
        """Return the vectors as a read-only matrix of shape (size, width), or None before there are any.

        Raises:
            WrongState: When there is no such matrix, but the states of tokens.
        """
        if self.each_token:
            raise WrongState("These are states of tokens, and not one vector a text.", "Only /embed_all answers them.")
        return None if self.vectors is None else vectors.from_bytes(self.vectors, self.width, self.dtype)

    def states(self) -> list[NDArray[np.floating]]:
        """Return the states of each item's tokens, read-only, shape (tokens, width); none of an item with an error."""
        counts = self.tokens.copy()
        counts[list(self.errors)] = 0
        rows = vectors.from_bytes(self.vectors or b"", self.width or 1, self.dtype)
        return np.split(rows, np.cumsum(counts)[:-1])

    def succeeded(self) -> NDArray[np.bool_]:
        """Return which items have a vector, shape (size,)."""
        matrix = self.matrix()
        return np.zeros(self.size, dtype=bool) if matrix is None else ~np.isnan(matrix[:, 0])

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes one by one."""
        matrix, succeeded, truncated = self.matrix(), self.succeeded().tolist(), self.truncated.tolist()
        found = []
        for i in range(self.size):
            error = self.errors.get(i)
            status = "succeeded" if succeeded[i] else "failed" if error else self.rest
            vector = matrix[i] if matrix is not None and succeeded[i] else None
            custom_id = self.ids[i] if self.ids is not None else None
            found.append(Outcome(self.first + i, custom_id, status, vector, int(self.tokens[i]), truncated[i], error))
        return found
