"""How fast a job went, over time: its tokens and items by the moment their chunks were done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, cast, func, select

from storage.contract.errors import UnknownJob
from storage.contract.states import ChunkState
from storage.database import Database, now_ms
from storage.tables import ChunkRow, JobRow

#: Chunks that a stretch should hold at least, on average: they come in bursts, and one alone says little of a rate.
_CHUNKS = 2


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a job got done in each of some equal stretches of its time.

    Args:
        started_at: When it began, in milliseconds since 1970.
        span: From then to its end, or to now while it runs, in milliseconds; at least 1.
        chunks: Chunks done altogether.
        tokens: Tokens of the chunks that were done in each stretch.
        items: Items of them.
    """

    started_at: int
    span: int
    chunks: int
    tokens: list[int]
    items: list[int]

    @property
    def stretch(self) -> float:
        """How long one stretch is, in seconds."""
        return self.span / len(self.tokens) / 1000

    def tokens_per_second(self) -> list[float]:
        """Return the rate of each stretch."""
        return [tokens / self.stretch for tokens in self.tokens]


class ThroughputStore:
    """Every read of how fast jobs went."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, job_id: str, stretches: int = 48) -> Throughput | None:
        """Return how fast a job went; None before it has begun.

        Args:
            job_id: The job.
            stretches: Into how many its time is divided; fewer where only few chunks are done.

        Raises:
            UnknownJob: When there is none of that id.
        """
        with self._db.read(one_moment=True) as connection:
            job = connection.execute(_JOB, {"job": job_id}).first()
            if job is None:
                raise UnknownJob(job_id)
            if job.started_at is None:
                return None
            span = max(1, int(job.finished_at or job.now) - int(job.started_at))
            chunks = int(connection.execute(_DONE, {"job": job_id}).scalar() or 0)
            number = max(1, min(stretches, chunks // _CHUNKS))
            return _throughput(connection, job_id, int(job.started_at), span, chunks, number)


def _throughput(
    connection: Connection, job_id: str, started_at: int, span: int, chunks: int, number: int
) -> Throughput:
    tokens, items = [0] * number, [0] * number
    wanted = {"job": job_id, "started": started_at, "span": span, "number": number}
    for row in connection.execute(_STRETCHES, wanted):
        # What is done in the very moment of the job's end belongs to the last stretch; what a clock set back shows, to
        # the first.
        place = min(max(int(row.stretch), 0), number - 1)
        tokens[place] += int(row.tokens or 0)
        items[place] += int(row.items or 0)
    return Throughput(started_at, span, chunks, tokens, items)


def _number(name: str) -> Any:
    return bindparam(name, type_=BigInteger())


# Statements put together once.

_JOB = select(JobRow.started_at, JobRow.finished_at, now_ms().label("now")).where(
    JobRow.id == bindparam("job"), JobRow.deleted_at.is_(None)
)
_IS_DONE = (ChunkRow.job_id == bindparam("job"), ChunkRow.state == ChunkState.DONE, ChunkRow.done_at.is_not(None))
_DONE = select(func.count()).select_from(ChunkRow).where(*_IS_DONE)
# Whole numbers are divided, which both databases do without a rest.
_STRETCH = ((ChunkRow.done_at - _number("started")) * _number("number") // cast(_number("span"), BigInteger)).label(
    "stretch"
)
_STRETCHES = (
    select(_STRETCH, func.sum(ChunkRow.tokens).label("tokens"), func.sum(ChunkRow.size).label("items"))
    .where(*_IS_DONE)
    # By its name: an expression written twice has parameters of its own each time, which PostgreSQL takes for two.
    .group_by(_STRETCH)
)
