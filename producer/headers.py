"""What has to be known of a job before its results can be written: size, width, kind of number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExportHeader:
    """The facts that stand at the head of a result file.

    Args:
        job_id: The job's UUIDv7.
        model: Name of the model that embedded it.
        total: Number of items.
        width: Components of a vector; 0 where no item has one and the model's width is not known.
        dtype: `float32` or `float16`: what the vectors are kept as.
        has_ids: Whether the items have caller's ids.
    """

    job_id: str
    model: str
    total: int
    width: int
    dtype: str
    has_ids: bool
