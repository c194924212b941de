"""The vectors of an ended job as one NumPy file over HTTP, straight into the array; a cut download goes on."""

from __future__ import annotations

import io

import httpx
import numpy as np
from numpy.typing import NDArray

from producer.remote.connection import Connection
from storage.contract.errors import EmbedmillError, LimitError, ServerError, ServiceUnavailable, StorageUnavailable

#: Bytes before the description of shape and type: the name of the format, its version, the description's length.
_FIXED = 10

_MAGIC = b"\x93NUMPY\x01\x00"


class VectorsDownload:
    """One download.

    Args:
        connection: Leads to the service.
        job_id: A job that has ended.
    """

    def __init__(self, connection: Connection, job_id: str) -> None:
        self._connection = connection
        self._path = f"/v1/jobs/{job_id}/results"
        self._begin()

    def run(self) -> NDArray[np.float32]:
        """Return the vectors, float32, shape (items, width).

        Raises:
            EmbedmillError: What the service says.
            ServiceUnavailable: When it cannot be reached for long.
        """
        patience = self._connection.patience()
        while True:
            had = self._got
            try:
                self._fetch()
            except httpx.TransportError as error:
                failed: EmbedmillError = self._connection.unreachable(error)
            except (ServiceUnavailable, StorageUnavailable, LimitError) as error:
                failed = error
            else:
                assert self._matrix is not None
                return self._matrix.astype(np.float32, copy=False)
            if self._got > had:
                patience = self._connection.patience()
            if not patience.lasts(getattr(failed, "retry_after", None)):
                raise failed

    def _begin(self) -> None:
        self._got = 0
        self._head = bytearray()
        self._etag: str | None = None
        self._matrix: NDArray[np.floating] | None = None
        self._room = memoryview(b"")

    def _fetch(self) -> None:
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if self._got and self._etag:
            headers |= {"Range": f"bytes={self._got}-", "If-Range": self._etag}
        with self._connection.stream(self._path, params={"format": "npy"}, headers=headers) as response:
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                self._begin()  # whole again: the job was sent round meanwhile, or nothing had come
                self._etag = response.headers.get("etag")
            for block in response.iter_raw():
                self._take(block)
        if self._matrix is None or len(self._room):
            raise httpx.ReadError("the download ended before all had come")

    def _take(self, block: bytes) -> None:
        self._got += len(block)
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
