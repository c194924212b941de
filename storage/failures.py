"""The items of a job that failed, each with its reason: read without a single vector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select

from storage import texts
from storage.contract.states import ChunkState
from storage.database import Database
from storage.outcomes import ItemError
from storage.results import unpack_errors
from storage.tables import CHUNK_HAS_FAILED, ChunkRow, InputRow, ResultRow

#: Chunks read in one go; most jobs that have failures have them in a few.
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Failure:
    """One item that has an error.

    Args:
        position: Place in the job, from 0.
        id: The caller's id, or None where none was given.
        error: Why it failed.
    """

    position: int
    id: str | None
    error: ItemError


class FailureStore:
    """Every read of failed items alone."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def first(self, job_id: str, limit: int) -> list[Failure]:
        """Return the first failed items of a job so far, in submission order.

        Args:
            job_id: The job.
            limit: At most so many.
        """
        found: list[Failure] = []
        least = 0
        while len(found) < limit:
            with self._db.read() as connection:
                rows = connection.execute(_FAILED, {"job": job_id, "least": least}).all()
            for row in rows:
                found += _failures(row)
            if len(rows) < _AT_ONCE:
                break
            least = rows[-1].first + 1
        return found[:limit]


def _failures(row: Any) -> Iterator[Failure]:
    errors = unpack_errors(row.invalid or {})
    # As in the results: what `retry` has sent round again has no outcome yet.
    if row.errors and row.state == ChunkState.DONE:
        errors |= unpack_errors(row.errors)
    ids = texts.unpack_ids(row.ids) if row.ids is not None else None
    for place, error in sorted(errors.items()):
        yield Failure(row.first + place, None if ids is None else ids[place], error)


_FAILED = (
    select(ChunkRow.first, ChunkRow.state, InputRow.ids, InputRow.invalid, ResultRow.errors)
    .join(InputRow, (InputRow.job_id == ChunkRow.job_id) & (InputRow.number == ChunkRow.number))
    .outerjoin(ResultRow, (ResultRow.job_id == ChunkRow.job_id) & (ResultRow.number == ChunkRow.number))
    .where(
        ChunkRow.job_id == bindparam("job"),
        ChunkRow.state != ChunkState.SPLIT,
        ChunkRow.first >= bindparam("least"),
        CHUNK_HAS_FAILED,
    )
    .order_by(ChunkRow.first)
    .limit(_AT_ONCE)
)
