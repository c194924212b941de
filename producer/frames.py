"""Results as Arrow and Parquet files: one row an item, the same columns in both.

An arrow file is in the Arrow IPC *file* format (what `pyarrow.ipc.open_file`, pandas' `read_feather` and polars'
`read_ipc` read), on standard output too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from producer.arrays import CANCELLED, FAILED, STATUSES, SUCCEEDED, statuses, vector_bytes
from producer.arrow import arrow_module
from producer.headers import ExportHeader
from producer.output import Sink
from storage import vectors
from storage.outcomes import Page

#: Rows and bytes of vectors that make a record batch (arrow) or a row group (parquet); bounds a reader's memory too.
GROUP_ROWS = 65_536
GROUP_BYTES = 16 << 20


def write_arrow(job: ExportHeader, pages: Iterable[Page], sink: Sink, only_failed: bool = False) -> int:
    """Write an Arrow IPC file; returns the items written."""
    with arrow_module("pyarrow.ipc").new_file(sink, schema(job)) as writer:
        return _write_groups(job, pages, writer, only_failed)


def write_parquet(job: ExportHeader, pages: Iterable[Page], sink: Sink, only_failed: bool = False) -> int:
    """Write a Parquet file; returns the items written."""
    parquet = arrow_module("pyarrow.parquet")
    repeating = ["status", "error_code", "error_message"]
    with parquet.ParquetWriter(sink, schema(job), compression="zstd", use_dictionary=repeating) as writer:
        return _write_groups(job, pages, writer, only_failed)


def schema(job: ExportHeader) -> Any:
    """Return the columns of an export, with the job's id and model as metadata."""
    arrow = arrow_module("pyarrow")
    number = arrow.float16() if job.dtype == "float16" else arrow.float32()
    return arrow.schema(
        [
            arrow.field("position", arrow.int64(), nullable=False),
            arrow.field("id", arrow.string()),
            arrow.field("status", arrow.string(), nullable=False),
            arrow.field("tokens", arrow.int32(), nullable=False),
            arrow.field("truncated", arrow.bool_(), nullable=False),
            # readers stumble over fixed-size lists of size 0, pyarrow itself among them
            arrow.field("vector", arrow.list_(number, job.width) if job.width else arrow.list_(number)),
            arrow.field("error_code", arrow.string()),
            arrow.field("error_message", arrow.string()),
        ],
        metadata={"embedmill.job_id": job.job_id, "embedmill.model": job.model},
    )


def _write_groups(job: ExportHeader, pages: Iterable[Page], writer: Any, only_failed: bool) -> int:
    """Write pages in groups, as a page alone is small, and small batches cost time and room."""
    most = max(1, min(GROUP_ROWS, GROUP_BYTES // max(1, job.width * vectors.DTYPES[job.dtype].itemsize)))
    waiting: list[Any] = []
    rows = written = 0
    for page in pages:
        batch = _batch(job, page, only_failed)
        if batch.num_rows:
            waiting.append(batch)
            rows += batch.num_rows
        if rows >= most:
            _write_group(writer, waiting, most)
            written, rows, waiting = written + rows, 0, []
    if rows:
        _write_group(writer, waiting, most)
    return written + rows


def _write_group(writer: Any, batches: list[Any], most: int) -> None:
    table = arrow_module("pyarrow").Table.from_batches(batches).combine_chunks()
    writer.write_table(table, most)


def _batch(job: ExportHeader, page: Page, only_failed: bool) -> Any:
    arrow = arrow_module("pyarrow")
    status = statuses(page)
    kept = np.flatnonzero(np.isin(status, (FAILED, CANCELLED))) if only_failed else np.arange(page.size)
    errors = [page.errors.get(i) if status[i] == FAILED else None for i in kept.tolist()]
    columns = schema(job)
    arrays = [
        arrow.array(page.first + kept, arrow.int64()),
        arrow.array([page.ids[i] if page.ids is not None else None for i in kept.tolist()], arrow.string()),
        arrow.array(STATUSES[status[kept]].tolist(), arrow.string()),
        arrow.array(page.tokens[kept].astype(np.int32), arrow.int32()),
        arrow.array(page.truncated[kept]),
        _vectors(job, page, kept, status[kept] != SUCCEEDED, columns.field("vector").type),
        arrow.array([error and error.code for error in errors], arrow.string()),
        arrow.array([error and error.message for error in errors], arrow.string()),
    ]
    return arrow.record_batch(arrays, schema=columns)


def _vectors(job: ExportHeader, page: Page, kept: NDArray[np.intp], missing: NDArray[np.bool_], kind: Any) -> Any:
    arrow = arrow_module("pyarrow")
    if not job.width:
        return arrow.nulls(len(kept), kind)
    matrix = vectors.from_bytes(vector_bytes(job, page), job.width, job.dtype)[kept]
    values = arrow.array(matrix.reshape(-1), kind.value_type)
    return arrow.FixedSizeListArray.from_arrays(values, type=kind, mask=arrow.array(missing))
