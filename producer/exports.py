"""A job's outcomes as a file or a stream, in submission order, in constant memory."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from producer.arrays import write_npy, write_npz
from producer.arrow import arrow_module
from producer.frames import write_arrow, write_parquet
from producer.headers import ExportHeader
from producer.output import Sink, Target, as_target, check_output, opened_output
from storage.contract.errors import InvalidOption, JobFailed
from storage.contract.options import shown
from storage.contract.states import JobState
from storage.outcomes import Outcome, Page
from storage.vectors import DTYPES

__all__ = [
    "ENCODINGS",
    "FORMATS",
    "ExportHeader",
    "Target",
    "check",
    "check_options",
    "check_state",
    "item_json",
    "jsonl_blocks",
    "write",
]

FORMATS = ("npy", "npz", "jsonl", "arrow", "parquet")
ENCODINGS = ("float", "base64")

_STREAMABLE = ("npy", "jsonl", "arrow")
_VECTORS_ONLY = ("npy", "npz")


def write(
    job: ExportHeader,
    pages: Iterable[Page],
    target: Target,
    format: str | None = None,
    *,
    force: bool = False,
    only_failed: bool = False,
    encoding: str = "float",
) -> int:
    """Write the outcomes of a job and return how many items were written.

    A file is written beside its place and moved there when it is whole; whatever goes wrong, the old one is untouched.

    Args:
        job: What is known of the job.
        pages: All its pages, in order; read once, after everything else was checked.
        target: A file, or a binary stream (npy, jsonl and arrow only).
        format: One of `FORMATS`; None goes by the file's ending.
        force: Whether an existing file is replaced.
        only_failed: Whether only failed and cancelled items are written (jsonl, arrow and parquet only).
        encoding: How jsonl writes vectors: `float`, or `base64` of little-endian float32.

    Raises:
        InvalidOption: When the options do not go together.
        MissingExtra: When Arrow or Parquet is asked for and pyarrow is not installed.
        OutputExists: When `target` exists, now or at the end, and `force` is not given.
        InvalidFile: When `target` cannot be written.
        StorageFull: When there is no room left.
        RuntimeError: When the pages are not those of the whole job; nothing is kept then.
    """
    chosen = check(target, format, force=force, only_failed=only_failed, encoding=encoding)
    writer = _writer(chosen, only_failed, encoding)
    with opened_output(target, force) as sink:
        return writer(job, _checked(job, pages), sink)


def check(
    target: Target,
    format: str | None = None,
    *,
    force: bool = False,
    only_failed: bool = False,
    encoding: str = "float",
    made_here: bool = True,
) -> str:
    """Refuse before any work is done what `write` would refuse; return the chosen format.

    Args:
        target: As for `write`, as are all others.
        format: See there.
        force: See there.
        only_failed: See there.
        encoding: See there.
        made_here: Whether the file is made by this process, and not by a service that has its own pyarrow.

    Raises:
        InvalidOption: When the options do not go together.
        MissingExtra: When Arrow or Parquet is made here and pyarrow is not installed.
        OutputExists: When `target` exists and `force` is not given.
        InvalidFile: When `target` is no place for a file.
    """
    target = as_target(target)
    chosen = _chosen_format(target, format)
    check_options(chosen, only_failed, encoding)
    if not isinstance(target, Path) and chosen not in _STREAMABLE:
        raise InvalidOption(
            f"The format {chosen} cannot be streamed.", f"Name a file, or stream {', '.join(_STREAMABLE)}."
        )
    if made_here and chosen in ("arrow", "parquet"):
        arrow_module("pyarrow")
    if isinstance(target, Path):
        check_output(target, force)
    return chosen


def _chosen_format(target: Path | BinaryIO, format: str | None) -> str:
    """Return the format asked for, or the one that the ending of `target` names."""
    known = ", ".join(FORMATS)
    if format is None and isinstance(target, Path):
        ending = target.suffix.lower().removeprefix(".")
        if ending not in FORMATS:
            raise InvalidOption(f"The ending of {target} names no format.", f"End it in one of {known}.")
        return ending
    if format is None:
        raise InvalidOption("A stream has no ending that names its format.", f"Name one of {', '.join(_STREAMABLE)}.")
    if format not in FORMATS:
        raise InvalidOption(f"The format of results is one of {known}, not {shown(format)}.")
    return format


def check_options(format: str, only_failed: bool, encoding: str) -> None:
    """Check what is asked of a format. Arguments as for `write`.

    Raises:
        InvalidOption: When the options do not go together.
    """
    if encoding not in ENCODINGS:
        raise InvalidOption(f"encoding must be one of {', '.join(ENCODINGS)}, not {shown(encoding)}.")
    if encoding != "float" and format != "jsonl":
        raise InvalidOption(f"The encoding {encoding} is one of jsonl files, not of {format}.")
    if only_failed and format in _VECTORS_ONLY:
        raise InvalidOption(f"Failed items have no vectors to write as {format}.", "Write them as jsonl.")


def check_state(job_id: str, state: str, format: str) -> None:
    """Refuse to write vectors, and nothing else, of a job that has none.

    Args:
        job_id: The job.
        state: Its state.
        format: One of `FORMATS`.

    Raises:
        JobFailed: When it could not be done as a whole; the other formats tell that of every item.
    """
    if state == JobState.FAILED and format in _VECTORS_ONLY:
        raise JobFailed(f"Job {job_id} failed and has no vectors.", "Its status says why.")


def _writer(format: str, only_failed: bool, encoding: str) -> Callable[[ExportHeader, Iterable[Page], Sink], int]:
    writers: dict[str, Callable[[ExportHeader, Iterable[Page], Sink], int]] = {
        "npy": write_npy,
        "npz": write_npz,
        "jsonl": lambda job, pages, sink: _write_jsonl(job, pages, sink, only_failed, encoding),
        "arrow": lambda job, pages, sink: write_arrow(job, pages, sink, only_failed),
        "parquet": lambda job, pages, sink: write_parquet(job, pages, sink, only_failed),
    }
    return writers[format]


def _checked(job: ExportHeader, pages: Iterable[Page]) -> Iterator[Page]:
    """Pass on pages that follow each other from 0 to the end and are of the job's kind, and stop at others."""
    position = 0
    for page in pages:
        if page.first != position or position + page.size > job.total:
            raise RuntimeError(
                f"Job {job.job_id} of {job.total} items: item {position} is due, but the items "
                f"{page.first} to {page.first + page.size - 1} came."
            )
        if (page.ids is not None) != job.has_ids or not _is_of_kind(job, page):
            raise RuntimeError(f"Job {job.job_id}: the page at item {position} is of another kind than the job.")
        position += page.size
        yield page
    if position != job.total:
        raise RuntimeError(f"Job {job.job_id}: the pages end at item {position} of {job.total}.")


def _is_of_kind(job: ExportHeader, page: Page) -> bool:
    if page.vectors is None:
        return True
    size = page.size * job.width * DTYPES[job.dtype].itemsize
    return (page.width, page.dtype, len(page.vectors)) == (job.width, job.dtype, size)


def _write_jsonl(job: ExportHeader, pages: Iterable[Page], sink: Sink, only_failed: bool, encoding: str) -> int:
    written = 0
    for count, block in jsonl_blocks(job, pages, only_failed, encoding):
        sink.write(block)
        written += count
    return written


def jsonl_blocks(
    job: ExportHeader, pages: Iterable[Page], only_failed: bool, encoding: str, first: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of each page, and before them how many they are.

    Args:
        job: What is known of the job.
        pages: Its pages, in order.
        only_failed: Whether only failed and cancelled items are written.
        encoding: As for `write`.
        first: Position of the first item that is written.
    """
    for page in pages:
        lines = [
            item_json(outcome, encoding, job.has_ids) + "\n"
            for outcome in page.outcomes()
            if outcome.position >= first and (not only_failed or outcome.status in ("failed", "cancelled"))
        ]
        yield len(lines), "".join(lines).encode()


def item_json(outcome: Outcome, encoding: str, with_id: bool = True) -> str:
    """Return an item and what became of it as a JSON object on one line.

    Args:
        outcome: The item.
        encoding: `float`, or `base64` of little-endian float32.
        with_id: Whether it has a field for the caller's id.
    """
    head: dict[str, object] = {"position": outcome.position}
    if with_id:
        head["id"] = outcome.id
    head |= {"status": outcome.status, "tokens": outcome.tokens, "truncated": outcome.truncated}
    error = None
    if outcome.status == "failed" and outcome.error is not None:
        error = {"code": outcome.error.code, "message": outcome.error.message}
    vector = "null" if outcome.vector is None else _numbers(outcome.vector, encoding)
    fields = json.dumps(head, ensure_ascii=False)[:-1]
    return f'{fields}, "vector": {vector}, "error": {json.dumps(error, ensure_ascii=False)}}}'


def _numbers(vector: NDArray[np.floating], encoding: str) -> str:
    """Return a vector as JSON; its numbers are the shortest that are read back as the same float32."""
    exact = vector.astype("<f4")
    if encoding == "base64":
        return f'"{base64.b64encode(exact.tobytes()).decode()}"'
    return f"[{', '.join(exact.astype(np.str_).tolist())}]"
