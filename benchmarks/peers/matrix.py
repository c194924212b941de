"""A matrix on its way between two environments, whose numpys may differ."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Matrix(NamedTuple):
    """Its float32 numbers as bytes, and its shape."""

    data: bytes
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: NDArray[Any]) -> Matrix:
        """Return what is sent of an array."""
        return cls(np.ascontiguousarray(array, np.float32).tobytes(), array.shape)

    def array(self) -> NDArray[np.float32]:
        """Return the array, read-only."""
        return np.frombuffer(self.data, np.float32).reshape(self.shape)
