"""Results as Arrow and Parquet."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from producer.exports import ExportHeader, write
from producer.frames import GROUP_BYTES
from storage.outcomes import Page
from tests.producer.export_pages import ERRORS, IDS, JOB_ID, STATUSES, TOKENS, TRUNCATED, job, matrix, pages

FORMATS = ["arrow", "parquet"]


def loaded(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    with pa.ipc.open_file(path) as reader:
        return reader.read_all()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_table_has_one_row_an_item_in_order(tmp_path: Path, format: str, dtype: str) -> None:
    assert write(job(dtype), pages(dtype), tmp_path / f"zoo.{format}") == 7
    table = loaded(tmp_path / f"zoo.{format}")
    assert table["position"].to_pylist() == list(range(7))
    assert table["id"].to_pylist() == IDS
    assert table["status"].to_pylist() == STATUSES
    assert table["tokens"].to_pylist() == TOKENS
    assert table["truncated"].to_pylist() == TRUNCATED
    errors = [ERRORS.get(i) for i in range(7)]
    assert table["error_code"].to_pylist() == [error and error.code for error in errors]
    assert table["error_message"].to_pylist() == [error and error.message for error in errors]
    for found, row, status in zip(table["vector"], matrix(dtype), STATUSES, strict=True):
        if status == "succeeded":
            assert found.values.to_numpy(zero_copy_only=False).tobytes() == row.tobytes()
        else:
            assert found.as_py() is None


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("dtype", "number"), [("float32", pa.float32()), ("float16", pa.float16())])
def test_the_columns_have_fixed_types_and_the_job_is_named(
    tmp_path: Path, format: str, dtype: str, number: pa.DataType
) -> None:
    write(job(dtype), pages(dtype), tmp_path / f"zoo.{format}")
    schema = loaded(tmp_path / f"zoo.{format}").schema
    assert {field.name: field.type for field in schema} == {
        "position": pa.int64(),
        "id": pa.string(),
        "status": pa.string(),
        "tokens": pa.int32(),
        "truncated": pa.bool_(),
        "vector": pa.list_(number, 5),
        "error_code": pa.string(),
        "error_message": pa.string(),
    }
    assert schema.metadata[b"embedmill.job_id"] == JOB_ID.encode()
    assert schema.metadata[b"embedmill.model"] == b"zoo/tiny"


@pytest.mark.parametrize("format", FORMATS)
def test_without_ids_the_column_is_null(tmp_path: Path, format: str) -> None:
    write(job(ids=False), pages(ids=False), tmp_path / f"zoo.{format}")
    assert loaded(tmp_path / f"zoo.{format}")["id"].null_count == 7


@pytest.mark.parametrize("format", FORMATS)
def test_only_failed_keeps_the_failed_and_the_cancelled(tmp_path: Path, format: str) -> None:
    assert write(job(), pages(), tmp_path / f"zoo.{format}", only_failed=True) == 4
    table = loaded(tmp_path / f"zoo.{format}")
    assert table["position"].to_pylist() == [1, 3, 4, 6]
    assert table["error_code"].to_pylist() == ["too_long", None, None, "invalid_item"]
    assert table["vector"].null_count == 4


@pytest.mark.parametrize("format", FORMATS)
def test_no_failures_make_an_empty_table(tmp_path: Path, format: str) -> None:
    first = replace(next(pages()), errors={}, rest="pending")
    assert write(job(total=3), [first], tmp_path / f"zoo.{format}", only_failed=True) == 0
    assert loaded(tmp_path / f"zoo.{format}").num_rows == 0


@pytest.mark.parametrize("format", FORMATS)
def test_a_job_without_any_vector_has_a_table_too(tmp_path: Path, format: str) -> None:
    cancelled = replace(list(pages())[1], first=0)
    write(job(total=2, width=0), [cancelled], tmp_path / f"zoo.{format}")
    found = loaded(tmp_path / f"zoo.{format}")["vector"]
    assert found.to_pylist() == [None, None]
    assert found.type == pa.list_(pa.float32())


@pytest.mark.parametrize("format", FORMATS)
def test_small_pages_make_large_but_bounded_groups(tmp_path: Path, format: str) -> None:
    size, width, number = 100, 4096, 35
    blob = np.ones((size, width), dtype="<f4").tobytes()
    counts = np.full(size, 9, dtype=np.int32)

    def many() -> Iterator[Page]:
        for first in range(0, number * size, size):
            yield Page(first, size, "pending", width, "float32", blob, counts, counts, None)

    path = tmp_path / f"ants.{format}"
    write(ExportHeader("j", "m", number * size, width, "float32", False), many(), path)
    if format == "parquet":
        metadata = pq.read_metadata(path)
        rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    else:
        with pa.ipc.open_file(path) as reader:
            rows = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
    assert sum(rows) == number * size
    assert max(rows) * width * 4 <= GROUP_BYTES
    assert len(rows) < number / 3
