"""Results as npy and npz."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from producer.exports import ExportHeader, write
from storage.outcomes import Page
from tests.producer.export_pages import IDS, STATUSES, TOKENS, TRUNCATED, job, matrix, pages

DTYPES = ["float32", "float16"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_npy_is_the_matrix_with_nan_where_there_is_no_vector(tmp_path: Path, dtype: str, mmap_mode: str | None) -> None:
    assert write(job(dtype), pages(dtype), tmp_path / "zoo.npy") == 7
    found = np.load(tmp_path / "zoo.npy", mmap_mode=mmap_mode, allow_pickle=False)  # type: ignore[call-overload]
    assert found.dtype == np.dtype(dtype)
    assert found.shape == (7, 5)
    np.testing.assert_array_equal(found, matrix(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_npz_holds_everything_but_the_errors_messages(tmp_path: Path, dtype: str) -> None:
    assert write(job(dtype), pages(dtype), tmp_path / "zoo.npz") == 7
    with np.load(tmp_path / "zoo.npz", allow_pickle=False) as found:
        assert sorted(found) == ["ids", "status", "tokens", "truncated", "vectors"]
        assert found["vectors"].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found["vectors"], matrix(dtype))
        assert found["ids"].tolist() == IDS
        assert found["tokens"].tolist() == TOKENS
        assert found["truncated"].tolist() == TRUNCATED
        assert found["truncated"].dtype == bool
        assert found["status"].tolist() == STATUSES


def test_npz_without_ids_has_no_array_of_them(tmp_path: Path) -> None:
    write(job(ids=False), pages(ids=False), tmp_path / "zoo.npz")
    with np.load(tmp_path / "zoo.npz", allow_pickle=False) as found:
        assert sorted(found) == ["status", "tokens", "truncated", "vectors"]


@pytest.mark.parametrize("format", ["npy", "npz"])
def test_a_job_without_any_vector_has_rows_of_the_models_width(tmp_path: Path, format: str) -> None:
    empty = [page for page in pages() if page.vectors is None]
    header = job(total=2)
    write(
        header, [Page(0, 2, "cancelled", 0, "float32", None, *[empty[0].tokens] * 2, IDS[:2])], tmp_path / f"z.{format}"
    )
    loaded = np.load(tmp_path / f"z.{format}", allow_pickle=False)
    found = loaded["vectors"] if format == "npz" else loaded
    assert found.shape == (2, 5)
    assert np.isnan(found).all()
    if format == "npz":
        loaded.close()


@pytest.mark.parametrize(("format", "ids"), [("npy", True), ("npz", False), ("jsonl", True)])
def test_memory_does_not_grow_with_the_job(tmp_path: Path, format: str, ids: bool) -> None:
    size, width, number = 500, 64, 200 if format != "jsonl" else 20
    blob = np.ones((size, width), dtype="<f4").tobytes()
    counts = np.full(size, 9, dtype=np.int32)

    def many() -> Iterator[Page]:
        for first in range(0, number * size, size):
            names = [f"ant {i}" for i in range(first, first + size)] if ids else None
            yield Page(first, size, "pending", width, "float32", blob, counts, counts, names)

    tracemalloc.start()
    write(ExportHeader("j", "m", number * size, width, "float32", ids), many(), tmp_path / f"ants.{format}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / f"ants.{format}").stat().st_size > number * len(blob)
    assert peak < 2_500_000
