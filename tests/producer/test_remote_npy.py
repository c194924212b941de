"""NumPy files that come in blocks of any size."""

from __future__ import annotations

import io

import numpy as np
import pytest

from producer.remote.npy import NpyTarget
from storage.contract.errors import ServerError


def _file(matrix: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, matrix)
    return stream.getvalue()


@pytest.mark.parametrize("block", [1, 7, 128, 129, 10_000])
@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
def test_a_matrix_comes_whole_in_blocks_of_any_size(block: int, dtype: str) -> None:
    matrix = np.arange(60, dtype=dtype).reshape(12, 5)
    data, target = _file(matrix), NpyTarget()
    for begin in range(0, len(data), block):
        assert not target.is_whole()
        target.take(data[begin : begin + block])
    assert target.is_whole()
    assert target.vectors().dtype == np.float32 and np.array_equal(target.vectors(), matrix)


@pytest.mark.parametrize("shape", [(0, 384), (3, 0)])
def test_a_matrix_without_numbers_is_one_too(shape: tuple[int, int]) -> None:
    target = NpyTarget()
    target.take(_file(np.empty(shape, np.float32)))
    assert target.is_whole() and target.vectors().shape == shape


def test_what_is_begun_anew_forgets_what_came_before() -> None:
    target = NpyTarget()
    target.take(_file(np.zeros((9, 9), np.float32))[:200])
    target.begin()
    target.take(_file(np.ones((2, 3), np.float32)))
    assert target.vectors().tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    "data",
    [b"<html>", b'{"data": []}', _file(np.arange(3.0)), _file(np.zeros((2, 2), int)), _file(np.ones((2, 2))) + b"more"],
)
def test_what_is_no_file_of_vectors_is_refused(data: bytes) -> None:
    with pytest.raises(ServerError):
        NpyTarget().take(data)
