"""Vectors as JSON: numbers that read back as the same float32, or base64 of their little-endian bytes."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray


def as_json(vector: NDArray[np.floating], in_base64: bool) -> str:
    """Return a vector as a JSON value.

    Args:
        vector: Shape (width,).
        in_base64: Whether it is told as base64.
    """
    exact = vector.astype("<f4")
    if in_base64:
        return f'"{base64.b64encode(exact.tobytes()).decode()}"'
    return f"[{','.join(exact.astype(np.str_).tolist())}]"


def shortened(matrix: NDArray[np.floating], width: int | None) -> NDArray[np.floating]:
    """Return the first components of vectors, renormalised (Matryoshka, arXiv 2205.13147).

    Args:
        matrix: Shape (n, full width).
        width: Components to keep; None leaves the vectors as they are.
    """
    if width is None or width >= matrix.shape[1]:
        return matrix
    cut = matrix[:, :width].astype(np.float32)
    norms = np.linalg.norm(cut, axis=1, keepdims=True)
    kept: NDArray[np.floating] = cut / np.maximum(norms, np.finfo(np.float32).tiny)
    return kept


def data_of(matrix: NDArray[np.floating], in_base64: bool) -> str:
    """Return the `data` of an embeddings answer as JSON.

    Args:
        matrix: Shape (inputs, width).
        in_base64: Whether vectors are told as base64.
    """
    told = (
        f'{{"object":"embedding","index":{index},"embedding":{as_json(vector, in_base64)}}}'
        for index, vector in enumerate(matrix)
    )
    return f"[{','.join(told)}]"
