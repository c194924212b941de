"""What the service tells as JSON, as the plain values that are had over storage too."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def outcome_of(item: dict[str, Any]) -> Outcome:
    """Return an item as an `Outcome`; its vector as float32, written as base64 or as numbers."""
    error = item.get("error")
    return Outcome(
        position=item["position"],
        id=item.get("id"),
        status=item["status"],
        vector=_vector(item.get("vector")),
        tokens=item["tokens"],
        truncated=item["truncated"],
        error=ItemError(error["code"], error["message"]) if error else None,
    )


def _vector(told: str | list[float] | None) -> NDArray[np.float32] | None:
    if told is None:
        return None
    if isinstance(told, str):
        return np.frombuffer(base64.b64decode(told), dtype="<f4")
    return np.array(told, dtype=np.float32)
