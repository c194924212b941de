"""A job's results as one file, from any byte on, in constant memory.

A NumPy file's bytes are found by arithmetic: a header, then rows of one size. Lines of JSON are made anew and passed
over; how many bytes they are is remembered. The other formats are made in a temporary file, which is gone with its
last reader. The same results are the same bytes every time.
"""

from __future__ import annotations

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from producer import exports
from producer.arrays import npy_header, vector_bytes
from producer.headers import ExportHeader
from producer.job import Job
from storage.contract.errors import Conflict, WrongState
from storage.contract.states import FINAL_JOB_STATES
from storage.vectors import DTYPES

MEDIA_TYPES = {
    "npy": "application/octet-stream",
    "npz": "application/zip",
    "jsonl": "application/x-ndjson",
    "arrow": "application/vnd.apache.arrow.file",
    "parquet": "application/vnd.apache.parquet",
}

#: Bytes that are read from a temporary file at a time.
_BLOCK = 1 << 20

#: Files of which it is remembered how long they are.
_REMEMBERED = 256

_sizes: OrderedDict[str, int] = OrderedDict()
_sizes_lock = threading.Lock()


class ResultFile:
    """The results of a job that has ended, in one format.

    Args:
        job: The job.
        format: One of `exports.FORMATS`.
        only_failed: Whether only failed and cancelled items are in it.
        encoding: How jsonl writes vectors.
        after: Position of the first item that is in it; jsonl only.

    Raises:
        InvalidOption: When the options do not go together.
        WrongState: When the job has not ended.
        JobFailed: When vectors are asked of a job that could not be done as a whole.
    """

    def __init__(self, job: Job, format: str, only_failed: bool, encoding: str, after: int) -> None:
        exports.check_options(format, only_failed, encoding)
        record = job.record()
        if record.state not in FINAL_JOB_STATES:
            raise WrongState(f"Job {job.id} is {record.state}.", "Wait for its end, or read its results page by page.")
        exports.check_state(job.id, record.state, format)
        self.format = format
        self._job = job
        self._generation = record.generation
        self._only_failed, self._encoding, self._after = only_failed, encoding, after
        dtype = record.options["store_dtype"]
        self._head = ExportHeader(job.id, record.model, record.total, job.width(), dtype, record.has_ids)
        self._row = self._head.width * DTYPES[dtype].itemsize
        self._npy = npy_header((record.total, self._head.width), DTYPES[dtype])
        asked = f"{'-failed' if only_failed else ''}{f'-{after}' if after else ''}"
        self.name = f"{job.id}{asked}.{format}"
        maker = version("pyarrow") if format in ("arrow", "parquet") else "1"
        self.etag = f'"{job.id}-{record.generation}{asked}-{encoding}-{format}-{maker}"'

    def known_size(self) -> int | None:
        """Return how many bytes it has, or None where that is not known before it is made."""
        if self.format == "npy":
            return len(self._npy) + self._head.total * self._row
        with _sizes_lock:
            return _sizes.get(self.etag)

    def size(self) -> int:
        """Return how many bytes it has, even if it must be made to find out; npy and jsonl only."""
        known = self.known_size()
        if known is None:
            known = sum(map(len, self._lines()))
            self._remember(known)
        return known

    def blocks(self, start: int, stop: int | None) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `stop`, or to the end; npy and jsonl only.

        Raises:
            Conflict: Before the last bytes, when the job was sent round again meanwhile: they would be of another file.
        """
        return self._steady(self._rows(start, stop) if self.format == "npy" else self._lines_between(start, stop))

    def made(self) -> MadeFile:
        """Return it as a temporary file, which every format can be."""
        with tempfile.TemporaryDirectory(prefix="embedmill-") as folder:
            path = Path(folder) / f"results.{self.format}"
            exports.write(self._head, self._job.pages(), path, self.format, only_failed=self._only_failed)
            self._check()
            return MadeFile(path)

    def _rows(self, start: int, stop: int | None) -> Iterator[bytes]:
        stop = self.size() if stop is None else stop
        if start < len(self._npy):
            yield self._npy[start:stop]
        if stop <= len(self._npy) or not self._row:
            return
        around = max(0, start - len(self._npy)) // self._row
        for page in self._job.pages(around=around):
            begin = len(self._npy) + page.first * self._row
            block = memoryview(vector_bytes(self._head, page))[max(0, start - begin) : max(0, stop - begin)]
            yield bytes(block)
            if begin + page.size * self._row >= stop:
                return

    def _lines(self) -> Iterator[bytes]:
        pages = self._job.pages(around=self._after)
        for _, block in exports.jsonl_blocks(self._head, pages, self._only_failed, self._encoding, self._after):
            yield block

    def _lines_between(self, start: int, stop: int | None) -> Iterator[bytes]:
        begin = 0
        for block in self._lines():
            yield block[max(0, start - begin) : None if stop is None else max(0, stop - begin)]
            begin += len(block)
            if stop is not None and begin >= stop:
                return
        self._remember(begin)

    def _steady(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        held = b""
        for block in blocks:
            if held and block:
                yield held
            held = block or held
        self._check()
        yield held

    def _check(self) -> None:
        if self._job.record().generation != self._generation:
            raise Conflict("The job was sent round again meanwhile.", "Wait for its end and begin anew.")

    def _remember(self, size: int) -> None:
        with _sizes_lock:
            _sizes[self.etag] = size
            _sizes.move_to_end(self.etag)
            if len(_sizes) > _REMEMBERED:
                _sizes.popitem(last=False)


class MadeFile:
    """A temporary file that has no name any more, and goes when it is closed.

    Args:
        path: Where it is now.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.size = path.stat().st_size

    def close(self) -> None:
        """Let it go."""
        self._file.close()

    def blocks(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield its bytes from `start` to before `stop`, then let it go."""
        with self._file as file:
            file.seek(start)
            while start < stop and (block := file.read(min(_BLOCK, stop - start))):
                start += len(block)
                yield block
