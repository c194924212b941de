"""The statements by which the chunks of a job are read with what became of them, put together once."""

from __future__ import annotations

from sqlalchemy import and_, bindparam, func, or_, select

from storage.contract.states import OPEN_CHUNK_STATES, ChunkState
from storage.finishing import has_open_chunks
from storage.tables import (
    CHUNK_HAS_FAILED,
    JOB_IS_OPEN,
    JOB_IS_UNFINISHED,
    ChunkRow,
    InputRow,
    JobRow,
    ResultRow,
)

#: Whether the job has ended: what of it is still open is cancelled, as soon as somebody gets round to it.
_IS_OVER = select(JobRow.id).where(JobRow.id == bindparam("job"), ~JOB_IS_UNFINISHED).exists()
_WENT_ROUND = select(JobRow.unretried_from).where(JobRow.id == bindparam("job"), JOB_IS_UNFINISHED).scalar_subquery()
#: Chunks whose failed items are still to go round again, as `retry` has it: see `storage/retries.py`.
_GOES_ROUND = and_(ChunkRow.state == ChunkState.DONE, ChunkRow.failed > ChunkRow.invalid, ChunkRow.first >= _WENT_ROUND)
#: A job's chunks with what is known of them; the statements are put together once.
_CHUNKS = (
    select(
        ChunkRow.first,
        ChunkRow.size,
        ChunkRow.state,
        _IS_OVER.label("is_over"),
        _GOES_ROUND.label("goes_round"),
        InputRow.ids,
        InputRow.invalid,
        ResultRow.width,
        ResultRow.dtype,
        ResultRow.vectors,
        ResultRow.tokens,
        ResultRow.lengths,
        ResultRow.errors,
    )
    .join(InputRow, (InputRow.job_id == ChunkRow.job_id) & (InputRow.number == ChunkRow.number))
    .outerjoin(ResultRow, (ResultRow.job_id == ChunkRow.job_id) & (ResultRow.number == ChunkRow.number))
    .where(ChunkRow.job_id == bindparam("job"), ChunkRow.state != ChunkState.SPLIT)
)
PAGE = _CHUNKS.where(ChunkRow.number == bindparam("number"))
PAGES = (
    _CHUNKS.where(ChunkRow.first >= bindparam("least"), ChunkRow.first < bindparam("below"))
    .order_by(ChunkRow.first)
    .limit(bindparam("many"))
)
AROUND = select(func.max(ChunkRow.first)).where(
    ChunkRow.job_id == bindparam("job"), ChunkRow.first <= bindparam("position")
)
#: The chunk around an item, found by the index over first items.
PAGES_BEHIND = (
    _CHUNKS.where(ChunkRow.first >= func.coalesce(AROUND.scalar_subquery(), 0))
    .where(ChunkRow.first + ChunkRow.size > bindparam("position"))
    .order_by(ChunkRow.first)
    .limit(1)
)
_may_be_cancelled = ChunkRow.state.in_([ChunkState.CANCELLED, *sorted(OPEN_CHUNK_STATES)])
_is_open = ChunkRow.state.in_(sorted(OPEN_CHUNK_STATES)) & ~_IS_OVER
#: Those that may hold an item of a status, or will.
MAY_HOLD = {
    "succeeded": PAGES_BEHIND.where(or_(ChunkRow.succeeded > 0, _is_open)),
    "failed": PAGES_BEHIND.where(or_(CHUNK_HAS_FAILED, _is_open)),
    "cancelled": PAGES_BEHIND.where(_may_be_cancelled),
}
#: Whether a job that has not ended has chunks without an outcome: an index each answers.
MAY_FAIL_YET = select(select(JobRow.id).where(JobRow.id == bindparam("job"), JOB_IS_OPEN, has_open_chunks()).exists())
#: Of another job those that failed are found by an index of them alone.
HAS_FAILED = PAGES_BEHIND.where(CHUNK_HAS_FAILED)
