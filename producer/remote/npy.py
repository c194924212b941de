"""A NumPy file of vectors that comes in blocks and goes straight into the array."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from storage.contract.errors import ServerError

#: How the file begins, and the bytes before the description of shape and type, whose length is the last two of them.
_MAGIC, _FIXED = b"\x93NUMPY\x01\x00", 10


class NpyTarget:
    """Takes a file; of anything else it takes no more than the first block."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget what was taken."""
        self._head = bytearray()
        self._matrix: NDArray[np.floating] | None = None
        self._room = memoryview(b"")

    def take(self, block: bytes) -> None:
        """Take the bytes that follow.

        Raises:
            ServerError: When it is no file of vectors, or longer than it says.
        """
        if self._matrix is None:
            self._head += block
            end = _end_of_head(self._head)
            if len(self._head) < end:
                return
            block = bytes(self._head[end:])
            self._matrix = _empty(self._head[:end])
            self._room = self._matrix.reshape(-1).view(np.uint8).data
        if len(block) > len(self._room):
            raise _foreign()
        self._room[: len(block)] = block
        self._room = self._room[len(block) :]

    def is_whole(self) -> bool:
        """Whether every number has come."""
        return self._matrix is not None and not len(self._room)

    def vectors(self) -> NDArray[np.float32]:
        """Return the vectors, float32, shape (items, width); only of a whole file."""
        assert self._matrix is not None
        return self._matrix.astype(np.float32, copy=False)


def _end_of_head(head: bytearray) -> int:
    """Return how many bytes come before the numbers, or more than there are while that cannot be told.

    Raises:
        ServerError: When it is no NumPy file.
    """
    if not head.startswith(_MAGIC[: len(head)]):
        raise _foreign()
    if len(head) < _FIXED:
        return _FIXED
    return _FIXED + int.from_bytes(head[_FIXED - 2 : _FIXED], "little")


def _empty(head: bytearray) -> NDArray[np.floating]:
    """Return an array of the shape and type that a NumPy file's head says.

    Raises:
        ServerError: When it is no head of a matrix.
    """
    stream = io.BytesIO(head)
    try:
        np.lib.format.read_magic(stream)
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
        if len(shape) != 2 or by_columns or dtype.kind != "f":
            raise ValueError
    except ValueError:
        raise _foreign() from None
    matrix: NDArray[np.floating] = np.empty(shape, dtype)
    return matrix


def _foreign() -> ServerError:
    return ServerError("The download is no NumPy file of vectors.", "Look what stands between here and the service.")
