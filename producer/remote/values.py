"""What the service tells as JSON, as the plain values that are had over storage too."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage import vectors
from storage.jobstatus import JobStatus
from storage.outcomes import ItemError, Outcome

#: What every status has, and every page of a list, with its type: by them the answer of another program is told.
STATUS: Mapping[str, type] = MappingProxyType({"id": str, "state": str})
PAGE: Mapping[str, type] = MappingProxyType({"data": list, "next": object})

_STATUS_FIELDS = [field.name for field in fields(JobStatus)]


def status_of(told: dict[str, Any]) -> JobStatus:
    """Return a status object as a `JobStatus`; what the service tells beyond that is left out."""
    known: dict[str, Any] = {name: told.get(name) for name in _STATUS_FIELDS}
    return JobStatus(**known | {"labels": told.get("labels") or {}})


def outcome_of(item: dict[str, Any], dtype: str | None) -> Outcome:
    """Return an item as an `Outcome`.

    Args:
        item: As the service tells it; its vector is float32, written as base64 or as numbers.
        dtype: The type that the job keeps, whose numbers those are; None: the service is too old to say.
    """
    error = item.get("error")
    return Outcome(
        position=item["position"],
        id=item.get("id"),
        status=item["status"],
        vector=_vector(item.get("vector"), dtype or "float32"),
        tokens=item["tokens"],
        truncated=item["truncated"],
        error=ItemError(error["code"], error["message"]) if error else None,
    )


def _vector(told: str | list[float] | None, dtype: str) -> NDArray[np.floating] | None:
    if told is None:
        return None
    coded = base64.b64decode(told) if isinstance(told, str) else np.array(told, dtype="<f4").tobytes()
    numbers = np.frombuffer(coded, dtype="<f4")
    vector = vectors.cast(numbers, dtype)
    vector.setflags(write=False)
    return vector
