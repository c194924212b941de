"""Some work, counted three ways, and how that is added up out of chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select, union_all

from storage.tables import CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED, CHUNK_IS_PENDING, ChunkRow


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

# Along the partial indexes of what is open: the jobs' table is asked once a job, even where ten million texts wait.
_COUNTED = (ChunkRow.job_id, *LOAD)

#: What waits or is in hand, a row for each job of which something does.
OPEN = union_all(
    select(*_COUNTED).where(CHUNK_IS_PENDING).group_by(ChunkRow.job_id),
    select(*_COUNTED).where(or_(CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED)).group_by(ChunkRow.job_id),
).subquery()

#: The same, added up over several jobs.
ADDED_UP = tuple(func.sum(OPEN.c[name]).label(name) for name in ("chunks", "texts", "tokens"))


def load_of(row: Any) -> Load:
    """Return what a row of `LOAD` or of `ADDED_UP` says."""
    # PostgreSQL adds bigints up to a decimal.
    return Load(int(row.chunks), int(row.texts or 0), int(row.tokens or 0))
