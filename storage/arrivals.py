"""What has come in of a job that is being submitted, counted in its row as it comes.

Were its chunks added up anew for each that comes, one of millions would be read again and again. A row of an earlier
schema has no counts, and goes without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, update

from storage.contract.states import ChunkState
from storage.tables import ChunkRow, JobRow

#: Rows of new chunks.
Chunks = Sequence[Mapping[str, Any]]


def counts(chunks: Chunks) -> dict[str, int]:
    """Return the columns of a job's row that count its chunks, of which these are all."""
    texts, tokens = (sum(int(chunk[name]) for chunk in chunks) for name in ("size", "token_estimate"))
    return {"arrived": texts, "estimated": tokens}


def more_counts(chunks: Chunks) -> dict[str, Any]:
    """Return the same of a job to which these chunks come."""
    return {name: getattr(JobRow, name) + more for name, more in counts(chunks).items()}


def take_off(connection: Connection, job_id: str, *which: ColumnElement[bool]) -> None:
    """Take chunks that will be no part of a job off its counts, before they are gone.

    Args:
        connection: A write transaction that holds the job's row.
        job_id: The job.
        *which: Which of its chunks; those that are taken off already are passed over.
    """
    sums = select(func.sum(ChunkRow.size), func.sum(ChunkRow.token_estimate))
    texts, tokens = connection.execute(
        sums.where(ChunkRow.job_id == job_id, ChunkRow.state != ChunkState.SPLIT, *which)
    ).one()
    if texts is not None:
        less = {"arrived": JobRow.arrived - int(texts), "estimated": JobRow.estimated - int(tokens)}
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(less))
