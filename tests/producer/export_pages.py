"""A small job with one item of every status, for the tests of all export formats."""

from collections.abc import Iterator

import numpy as np

from producer.exports import ExportHeader
from storage import vectors
from storage.outcomes import ItemError, Page

JOB_ID = "0198c0de-0000-7000-8000-000000000001"
WIDTH = 5
IDS = ["ant", "蚂蚁", "bee", "cow", "dog", "emu", 'f"ox']
STATUSES = ["succeeded", "failed", "succeeded", "cancelled", "cancelled", "succeeded", "failed"]
TOKENS = [4, 0, 8, 0, 0, 3, 0]
TRUNCATED = [False, False, True, False, False, False, False]
ERRORS = {1: ItemError("too_long", "It has 900 tokens."), 6: ItemError("invalid_item", 'It is "empty".')}


def job(dtype: str = "float32", ids: bool = True, **changes: int) -> ExportHeader:
    return ExportHeader(
        **{"job_id": JOB_ID, "model": "zoo/tiny", "total": 7, "width": WIDTH, **changes}, dtype=dtype, has_ids=ids
    )


def matrix(dtype: str = "float32") -> np.ndarray:
    """Return the job's vectors, numbers that are awkward to write in decimals, NaN rows where there are none."""
    rows = (np.random.default_rng(7).standard_normal((7, WIDTH)) / 20).astype(dtype)
    rows[0] = [1 / 3, -0.0, 6.1e-5, 1.0, 0.1]
    rows[[status != "succeeded" for status in STATUSES]] = np.nan
    return rows


def pages(dtype: str = "float32", ids: bool = True) -> Iterator[Page]:
    """Yield the job in three chunks; the second one was cancelled before anything was done."""
    rows = matrix(dtype)
    for first, last in ((0, 3), (3, 5), (5, 7)):
        tokens = np.array(TOKENS[first:last], dtype=np.int32)
        yield Page(
            first=first,
            size=last - first,
            rest="cancelled",
            width=0 if first == 3 else WIDTH,
            dtype=dtype,
            vectors=None if first == 3 else vectors.to_bytes(rows[first:last], dtype),
            tokens=tokens,
            lengths=tokens + np.array(TRUNCATED[first:last], dtype=np.int32),
            ids=IDS[first:last] if ids else None,
            errors={i - first: error for i, error in ERRORS.items() if first <= i < last},
        )
