"""A job's chunks added up: what waits apart from the rest, since an index finds it and most columns of it are alike."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, func, select

from storage.contract.states import OPEN_CHUNK_STATES, ChunkState
from storage.tables import CHUNK_IS_DISPATCHED, CHUNK_IS_PENDING, ChunkRow


class ChunkCounts(NamedTuple):
    """Sums over a job's chunks: items, then tokens that were read, then what was estimated.

    Args:
        size: Items.
        succeeded: Items with a vector.
        failed: Items with an error.
        truncated: Items whose text was cut.
        cancelled: Items of cancelled chunks that have neither.
        pending: Items of open chunks that have neither.
        tokens: Tokens read.
        recent: Tokens of chunks that were done lately.
        estimated_done: Tokens of done chunks, as they were estimated.
        estimated_left: Tokens of open chunks, as they were estimated.
        chunks_left: Open chunks.
    """

    size: int
    succeeded: int
    failed: int
    truncated: int
    cancelled: int
    pending: int
    tokens: int
    recent: int
    estimated_done: int
    estimated_left: int
    chunks_left: int

    def ended(self) -> ChunkCounts:
        """Return the same of a job that has ended: what of it is still open is cancelled, whoever gets round to it."""
        cancelled = self.cancelled + self.pending
        return self._replace(cancelled=cancelled, pending=0, estimated_left=0, chunks_left=0)


def count_chunks(
    connection: Connection, job_id: str, since: int, begun: bool = True, waiting: bool = True
) -> ChunkCounts:
    """Return the sums over a job's chunks, inside a transaction that sees one moment.

    Args:
        connection: Of the transaction.
        job_id: The job.
        since: From when on a chunk was done lately, in milliseconds since 1970.
        begun: Whether any chunk was ever claimed, or cancelled; else all wait or are sent, which indexes find.
        waiting: Whether any chunk may wait to be sent; none does in a job that was completed.
    """
    rest_of = _REST if begun else _SENT
    waits = _sums(connection, _WAITING, {"job": job_id}) if waiting else [0] * len(_WAITING.selected_columns)
    rest = _sums(connection, rest_of, {"job": job_id, "since": since})
    size, succeeded, failed, truncated, tokens, estimated, chunks = waits
    pending = size - succeeded - failed
    more = (size, succeeded, failed, truncated, 0, pending, tokens, 0, 0, estimated, chunks)
    return ChunkCounts(*map(sum, zip(rest, more, strict=True)))


def _sums(connection: Connection, query: Any, values: dict[str, Any]) -> list[int]:
    # PostgreSQL adds bigints up to a decimal.
    return [int(found or 0) for found in connection.execute(query, values).one()]


_WAITING = select(
    func.sum(ChunkRow.size),
    func.sum(ChunkRow.succeeded),
    func.sum(ChunkRow.failed),
    func.sum(ChunkRow.truncated),
    func.sum(ChunkRow.tokens),
    func.sum(ChunkRow.token_estimate),
    func.count(),
).where(ChunkRow.job_id == bindparam("job"), CHUNK_IS_PENDING)


def _rest() -> Any:
    is_open, is_done = ChunkRow.state.in_(sorted(OPEN_CHUNK_STATES)), ChunkRow.state == ChunkState.DONE
    unsettled = ChunkRow.size - ChunkRow.succeeded - ChunkRow.failed
    # Nothing is grouped or worked out anew for each row, such as the time: SQLite would take four times as long.
    return select(
        func.sum(ChunkRow.size),
        func.sum(ChunkRow.succeeded),
        func.sum(ChunkRow.failed),
        func.sum(ChunkRow.truncated),
        func.sum(unsettled).filter(ChunkRow.state == ChunkState.CANCELLED),
        func.sum(unsettled).filter(is_open),
        func.sum(ChunkRow.tokens),
        func.sum(ChunkRow.tokens).filter(ChunkRow.done_at > bindparam("since")),
        func.sum(ChunkRow.token_estimate).filter(is_done),
        func.sum(ChunkRow.token_estimate).filter(is_open),
        func.count().filter(is_open),
    ).where(ChunkRow.job_id == bindparam("job"))


_REST = _rest().where(ChunkRow.state.not_in([ChunkState.PENDING, ChunkState.SPLIT]))
_SENT = _rest().where(CHUNK_IS_DISPATCHED)
