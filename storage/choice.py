"""Chooses which pending chunks are sent next: a fair share between keys, small jobs before large ones, then by age.

The choice is made a few chunks at a time, so that what was fair an hour ago binds nobody now.
"""

from __future__ import annotations

import random
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select

from storage.contract.models import Priority
from storage.database import now_ms
from storage.tables import CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED, CHUNK_IS_PENDING, JOB_IS_OPEN, ChunkRow, JobRow

#: A job of at most so many chunks is small: it goes before large ones of the same key.
SMALL = 4

#: Share of a key's turns in which its small jobs go first; in the others the oldest job does, so that none starves.
_SMALL_FIRST = 0.75

#: PostgreSQL: pass over rows that another transaction is about to take; SQLite has one writer and ignores it.
SKIP_LOCKED: dict[str, Any] = {"of": ChunkRow, "skip_locked": True}


def choose(connection: Connection, model_id: str, priority: Priority, room: int) -> list[tuple[str, int]]:
    """Return up to `room` pending chunks, best first, as job and number; locks them where rows are locked.

    Args:
        connection: A transaction.
        model_id: The model identity.
        priority: Which of its queues.
        room: At most so many.
    """
    out = _out_by_key(connection, model_id, priority)
    # Who has the least under way comes first; a share of one chunk goes round by chance, not by name.
    keys = sorted(_open_keys(connection, model_id, priority), key=lambda key: (out.get(key, 0), random.random()))
    chosen: dict[tuple[str, int], None] = {}
    for waiting in range(len(keys), 0, -1):
        key = keys[len(keys) - waiting]
        share = -(-(room - len(chosen)) // waiting)
        chosen |= dict.fromkeys(_best(connection, model_id, priority, key, share))
    if len(chosen) < room and len(keys) > 1:
        for key in keys:
            chosen |= dict.fromkeys(_best(connection, model_id, priority, key, room))
    return list(chosen)[:room]


def pending_chunks(model_id: str, priority: Priority, key_id: str) -> Any:
    """Return the query for the chunks of one key that a model's queue should do next, the oldest job's first."""
    return (
        select(ChunkRow.job_id, ChunkRow.number, ChunkRow.token_estimate)
        .join(JobRow, JobRow.id == ChunkRow.job_id)
        .where(JobRow.model_id == model_id, JobRow.priority == priority, JobRow.key_id == key_id, JOB_IS_OPEN)
        .where(CHUNK_IS_PENDING, due(), not_expired())
        .order_by(JobRow.created_at, JobRow.id, ChunkRow.number)
    )


def due() -> ColumnElement[bool]:
    """Whether a chunk may be tried now, its back-off over."""
    return or_(ChunkRow.not_before.is_(None), ChunkRow.not_before <= now_ms())


def not_expired() -> ColumnElement[bool]:
    """Whether a job still has time; the reconciler ends it a moment after."""
    return or_(JobRow.expires_at.is_(None), JobRow.expires_at > now_ms())


def anything_pending(connection: Connection, model_id: str, priority: Priority) -> bool:
    """Whether a model's queue has anything to do."""
    keys = _open_keys(connection, model_id, priority)
    return any(connection.execute(pending_chunks(model_id, priority, key).limit(1)).first() for key in keys)


def _best(connection: Connection, model_id: str, priority: Priority, key: str, share: int) -> list[tuple[str, int]]:
    query = pending_chunks(model_id, priority, key).limit(share).with_for_update(**SKIP_LOCKED)
    rows: list[Any] = []
    if random.random() < _SMALL_FIRST:
        rows += connection.execute(query.where(JobRow.chunk_count <= SMALL))
    if len(rows) < share:
        rows += connection.execute(query)
    return list(dict.fromkeys((row.job_id, row.number) for row in rows))[:share]


def _open_keys(connection: Connection, model_id: str, priority: Priority) -> list[str]:
    """Return the keys with open jobs: one look into the index each, however many jobs they have."""
    keys: list[str] = []
    smallest = select(func.min(JobRow.key_id)).where(JobRow.model_id == model_id, JobRow.priority == priority)
    following = smallest.where(JOB_IS_OPEN)
    while (key := connection.execute(following).scalar()) is not None:
        keys.append(key)
        following = smallest.where(JOB_IS_OPEN, JobRow.key_id > key)
    return keys


def _out_by_key(connection: Connection, model_id: str, priority: Priority) -> dict[str, int]:
    out = select(JobRow.key_id, func.count()).join(ChunkRow, ChunkRow.job_id == JobRow.id)
    out = out.where(or_(CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED), JobRow.model_id == model_id)
    rows = connection.execute(out.where(JobRow.priority == priority).group_by(JobRow.key_id))
    return {row[0]: row[1] for row in rows}
