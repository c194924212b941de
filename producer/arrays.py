"""Results as NumPy files: npy is a header and the blobs of the chunks end to end, npz that and what is beside them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray

from producer.headers import ExportHeader
from producer.output import Sink
from storage import vectors
from storage.outcomes import Page

#: Statuses in npz files, by the number that stands for them in memory.
STATUSES = np.array(["succeeded", "failed", "cancelled", "pending"])
SUCCEEDED, FAILED, CANCELLED, PENDING = range(4)

#: Items of which ids or statuses are turned into fixed-width text at a time.
TEXT_ROWS = 4096


def write_npy(job: ExportHeader, pages: Iterable[Page], sink: Sink) -> int:
    """Write the vectors alone, shape (total, width); items without a vector are NaN rows. Returns the items written."""
    sink.write(npy_header((job.total, job.width), vectors.DTYPES[job.dtype]))
    written = 0
    for page in pages:
        sink.write(vector_bytes(job, page))
        written += page.size
    return written


def write_npz(job: ExportHeader, pages: Iterable[Page], sink: Sink) -> int:
    """Write the arrays `vectors`, `tokens`, `truncated`, `status` and, where there are any, `ids`.

    The vectors stream; of each item six bytes and its id wait in memory until they have passed. Returns the items
    written. Loads with `allow_pickle=False`.
    """
    counts = np.zeros(job.total, dtype="<i4")
    truncated = np.zeros(job.total, dtype=bool)
    status = np.zeros(job.total, dtype=np.uint8)
    ids: list[str] = []
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(_member("vectors"), "w", force_zip64=True) as member:
            member.write(npy_header((job.total, job.width), vectors.DTYPES[job.dtype]))
            for page in pages:
                member.write(vector_bytes(job, page))
                rows = slice(page.first, page.first + page.size)
                counts[rows], truncated[rows], status[rows] = page.tokens, page.truncated, statuses(page)
                ids.extend(page.ids or ())
        _write_member(archive, "tokens", [counts], counts.shape, counts.dtype)
        _write_member(archive, "truncated", [truncated], truncated.shape, truncated.dtype)
        _write_member(archive, "status", _status_blocks(status), status.shape, STATUSES.dtype)
        if job.has_ids:
            kind = np.dtype(f"<U{max(map(len, ids), default=1) or 1}")
            _write_member(archive, "ids", _id_blocks(ids, kind), (len(ids),), kind)
    return job.total


def statuses(page: Page) -> NDArray[np.uint8]:
    """Return the number of each item's status, shape (size,)."""
    rest = CANCELLED if page.rest == "cancelled" else PENDING
    found = np.where(page.succeeded(), SUCCEEDED, rest).astype(np.uint8)
    for i in page.errors:
        if found[i] != SUCCEEDED:
            found[i] = FAILED
    return found


def vector_bytes(job: ExportHeader, page: Page) -> bytes:
    """Return the vectors of one page, NaN rows where there are none."""
    if page.vectors is not None:
        return page.vectors
    return vectors.to_bytes(np.full((page.size, job.width), np.nan), job.dtype)


def npy_header(shape: tuple[int, ...], kind: np.dtype[np.generic]) -> bytes:
    """Return what a NumPy file of an array begins with.

    Args:
        shape: The array's.
        kind: Of its numbers.
    """
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


def _write_member(
    archive: zipfile.ZipFile,
    name: str,
    blocks: Iterable[NDArray[np.generic]],
    shape: tuple[int, ...],
    kind: np.dtype[np.generic],
) -> None:
    member: IO[bytes]
    with archive.open(_member(name), "w", force_zip64=True) as member:
        member.write(npy_header(shape, kind))
        for block in blocks:
            member.write(block.tobytes())


def _member(name: str) -> zipfile.ZipInfo:
    # Without the time of day, so that the same results are the same bytes: a download may then be resumed.
    return zipfile.ZipInfo(f"{name}.npy")


def _status_blocks(status: NDArray[np.uint8]) -> Iterator[NDArray[np.str_]]:
    for start in range(0, len(status), TEXT_ROWS):
        yield STATUSES[status[start : start + TEXT_ROWS]]


def _id_blocks(ids: list[str], kind: np.dtype[np.str_]) -> Iterator[NDArray[np.str_]]:
    for start in range(0, len(ids), TEXT_ROWS):
        yield np.array(ids[start : start + TEXT_ROWS], dtype=kind)
