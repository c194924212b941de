"""What an engine made of a chunk's texts, as it is committed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storage import vectors
from storage.attempts import ChunkInput
from storage.contract.options import NO_POOLING, JobOptions
from storage.outcomes import ItemError
from storage.results import ChunkResult, unpack_errors
from worker.enginelike import EmbeddedLike


def unsettled(chunk: ChunkInput) -> list[int]:
    """Return the places of a chunk that are to be embedded: all, or those that failed the round before."""
    if chunk.kept is None:
        return [i for i in range(len(chunk.texts)) if i not in chunk.settled]
    return [i for i in unpack_errors(chunk.kept.errors or {}) if i not in chunk.settled]


def sent(chunk: ChunkInput, places: list[int], options: JobOptions) -> list[int]:
    """Return the places of a chunk whose texts are sent through the encoder: those that are to be embedded.

    With `deterministic` all that can be: what is kept of a round before belongs to the company of what is not.

    Args:
        chunk: The chunk.
        places: What is to be embedded.
        options: How.
    """
    return [i for i in range(len(chunk.texts)) if i not in chunk.settled] if options.deterministic else places


def chunk_result(
    chunk: ChunkInput, places: list[int], given: list[int], embedded: EmbeddedLike, start: int, options: JobOptions
) -> ChunkResult:
    """Return a chunk's result: what was embedded now, laid over what is kept of it from before.

    Args:
        chunk: The chunk.
        places: Places of the chunk that were embedded now.
        given: Places of the chunk whose texts went through the encoder, these among them.
        embedded: What came of one call, for several chunks; for this one alone where there is no pooling.
        start: Which of its texts is this chunk's first.
        options: How they were embedded.
    """
    size, kept = len(chunk.texts), chunk.kept
    if kept is None:
        tokens, lengths = np.zeros(size, dtype=np.int32), np.zeros(size, dtype=np.int32)
    else:
        tokens, lengths = (np.frombuffer(blob, dtype="<i4").copy() for blob in (kept.tokens, kept.lengths))
    kept_tokens = int(tokens.sum() - tokens[places].sum())
    rows = start + np.searchsorted(given, places)
    tokens[places], lengths[places] = embedded.tokens[rows], embedded.lengths[rows]
    errors = dict(chunk.settled)
    if embedded.errors:
        found = zip(places, rows.tolist(), strict=True)
        errors |= {place: embedded.errors[row] for place, row in found if row in embedded.errors}
    if options.pooling == NO_POOLING:
        return ChunkResult(embedded.vectors, options.store_dtype, tokens, lengths, errors, each_token=True)
    matrix = _laid_over(chunk, places, embedded.vectors[rows], options.store_dtype)
    for place in set(np.flatnonzero(~np.isfinite(matrix).all(axis=1)).tolist()) - set(errors):
        errors[place] = ItemError("bad_vector", f"The vector does not fit into {options.store_dtype}.")
    matrix[list(errors)] = np.nan
    return ChunkResult(matrix, options.store_dtype, tokens, lengths, errors, kept_tokens=kept_tokens)


def _laid_over(chunk: ChunkInput, places: list[int], found: NDArray[np.float32], dtype: str) -> NDArray[np.floating]:
    if chunk.kept is None:
        matrix: NDArray[np.floating] = np.full((len(chunk.texts), found.shape[1]), np.nan, dtype=np.float32)
    else:
        matrix = vectors.from_bytes(chunk.kept.vectors, chunk.kept.width, chunk.kept.dtype).copy()
    matrix[places] = found
    return vectors.cast(matrix, dtype)
