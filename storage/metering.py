"""What keys with a limit of tokens really used: settled at each commit, given back where a job was cancelled.

A job is admitted by an estimate, and a `retry` by the share of it that goes round again. The commit of a chunk puts the
difference right, in its own transaction, so that it happens exactly once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, select

from storage import naming
from storage.tables import CHUNK_IS_DISPATCHED, CHUNK_IS_PENDING, ChunkRow, JobRow, QuotaRow

#: How long it is believed that no key has a limit of tokens, in seconds.
_BELIEVED = 5.0

#: A chunk: its job and its number.
_Chunk = tuple[str, int]


class Meter:
    """Knows for a few seconds whether any key has a limit of tokens: while none has, commits pay nothing for them."""

    def __init__(self) -> None:
        self._until = 0.0
        self._needed = False

    def owed(self, connection: Connection, spent: Mapping[_Chunk, int]) -> dict[str, float]:
        """Return what keys owe for some chunks beyond what they were charged; empty without such a limit.

        Args:
            connection: A transaction in which the chunks have not been settled yet.
            spent: The tokens that were read now, by chunk.
        """
        if time.monotonic() > self._until:
            self._needed = connection.execute(_ANY).first() is not None
            self._until = time.monotonic() + _BELIEVED
        if not self._needed:
            return {}
        owed: Counter[str] = Counter()
        for row in connection.execute(_CHARGED, naming.chunks(spent)):
            owed[row.key_id] += spent[row.job_id, row.number] - _charged(row)
        return {key_id: float(tokens) for key_id, tokens in owed.items()}


def unspent(connection: Connection, job_id: str, after: int = -1, before: int = 1 << 62) -> dict[str, float]:
    """Return what a job's key was charged for chunks that nobody has begun with; empty without such a limit.

    Args:
        connection: A transaction.
        job_id: The job.
        after: Of the pending ones those behind this number.
        before: And before this one. All that were sent are among them.
    """
    key_id = connection.execute(_CHARGED_KEY, {"job": job_id}).scalar()
    if key_id is None:
        return {}
    place = {"job": job_id, "after": after, "before": before}
    tokens = sum(float(connection.execute(query, place).scalar() or 0) for query in (_WAITING, _SENT))
    return {key_id: -tokens} if tokens else {}


def _charged(row: Any) -> int:
    """Return what was charged for a chunk: at first the estimate, for a `retry` its share of that."""
    again = row.done_at is not None or row.tokens
    return int(row.share if again else row.token_estimate)


#: Of a chunk's estimate what the items have that a `retry` sends round again: no vector, and not refused at the door.
SHARE_AGAIN = ChunkRow.token_estimate * (ChunkRow.size - ChunkRow.succeeded - ChunkRow.invalid) / ChunkRow.size
_LIMITED = QuotaRow.tokens_per_minute.is_not(None)
_ANY = select(QuotaRow.key_id).where(_LIMITED).limit(1)
_CHARGED = (
    select(JobRow.key_id, ChunkRow.job_id, ChunkRow.number, ChunkRow.token_estimate, ChunkRow.tokens, ChunkRow.done_at)
    .add_columns(SHARE_AGAIN.label("share"))
    .join(JobRow, JobRow.id == ChunkRow.job_id)
    .join(QuotaRow, QuotaRow.key_id == JobRow.key_id)
    .where(naming.named(ChunkRow), _LIMITED)
)
_IS_FIRST = ChunkRow.done_at.is_(None) & (ChunkRow.tokens == 0)
_CHARGED_KEY = (
    select(JobRow.key_id)
    .join(QuotaRow, QuotaRow.key_id == JobRow.key_id)
    .where(JobRow.id == bindparam("job"), _LIMITED)
)
_CHARGE = select(func.sum(case((_IS_FIRST, ChunkRow.token_estimate), else_=SHARE_AGAIN))).where(
    ChunkRow.job_id == bindparam("job")
)
# One by one: each has a partial index of its own.
_WAITING = _CHARGE.where(CHUNK_IS_PENDING, ChunkRow.number > bindparam("after"), ChunkRow.number < bindparam("before"))
_SENT = _CHARGE.where(CHUNK_IS_DISPATCHED)
