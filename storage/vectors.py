"""Matrices of vectors as bytes and back, exactly: C-contiguous, little-endian, float32 or float16, nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}

#: What follows the kind of number of a matrix that has a row for each token, and not one for each item: whoever expects
#: the other finds a kind that he does not know.
EACH_TOKEN = "/token"


def cast(matrix: NDArray[np.floating], dtype: str) -> NDArray[np.floating]:
    """Return a matrix as the numbers that are kept; what is too large for float16 becomes infinite.

    Args:
        matrix: Any shape and float type.
        dtype: `float32` or `float16`.
    """
    with np.errstate(over="ignore"):
        return matrix.astype(DTYPES[dtype], copy=False)


def to_bytes(matrix: NDArray[np.floating], dtype: str) -> bytes:
    """Return the bytes of a matrix.

    Args:
        matrix: Shape (items, width); any float type and memory order.
        dtype: `float32` or `float16`: what is kept.
    """
    return np.ascontiguousarray(cast(matrix, dtype)).tobytes()


def from_bytes(blob: bytes, width: int, dtype: str) -> NDArray[np.floating]:
    """Return the matrix in `blob` as a read-only view, shape (items, width), without copying."""
    return np.frombuffer(blob, dtype=DTYPES[dtype]).reshape(-1, width)
