"""Some work, counted three ways, and how that is added up out of chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select, union_all
from sqlalchemy.orm import InstrumentedAttribute

from storage.tables import CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED, CHUNK_IS_PENDING, JOB_IS_OPEN, ChunkRow, JobRow


@dataclass(frozen=True, slots=True)
class Load:
    """Some work; tokens are estimates before they have been read.

    Args:
        chunks: Chunks.
        texts: Texts in them.
        tokens: Tokens in them.
    """

    chunks: int = 0
    texts: int = 0
    tokens: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(self.chunks + other.chunks, self.texts + other.texts, self.tokens + other.tokens)


#: What is counted of chunks.
LOAD = (
    func.count().label("chunks"),
    func.sum(ChunkRow.size - ChunkRow.succeeded - ChunkRow.failed).label("texts"),
    func.sum(ChunkRow.token_estimate).label("tokens"),
)


def waiting(*by: InstrumentedAttribute[Any], jobs: Sequence[ColumnElement[bool]] = ()) -> Select[Any]:
    """Return the statement that adds up what waits or is in hand, and says of which time its oldest job is (`oldest`).

    Args:
        by: Columns of jobs; a row comes for each value of them.
        jobs: Conditions on jobs: chunks of others are not looked at.
    """
    of_jobs = (ChunkRow.job_id.in_(select(JobRow.id).where(JOB_IS_OPEN, *jobs)),) if jobs else ()
    counted = select(ChunkRow.job_id, *LOAD).where(*of_jobs).group_by(ChunkRow.job_id)
    # Along the partial indexes of what is open: the jobs' table is asked once a job, even where ten million texts wait.
    out = or_(CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED)
    each = union_all(counted.where(CHUNK_IS_PENDING), counted.where(out)).subquery()
    added_up = (func.sum(each.c[name]).label(name) for name in ("chunks", "texts", "tokens"))
    wanted = select(*by, *added_up, func.min(JobRow.created_at).label("oldest")).join(each, each.c.job_id == JobRow.id)
    return wanted.where(JOB_IS_OPEN, *jobs).group_by(*by)


def load_of(row: Any) -> Load:
    """Return what a row of `LOAD` or of `waiting` says."""
    # PostgreSQL adds bigints up to a decimal.
    return Load(int(row.chunks), int(row.texts or 0), int(row.tokens or 0))
