"""Chooses which pending chunks are sent next: a fair share between keys, small jobs before large ones, then by age.

The choice is made a few chunks at a time, so that what was fair an hour ago binds nobody now.
"""

from __future__ import annotations

import random
from itertools import islice, zip_longest
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, or_, select

from storage.contract.models import Priority
from storage.database import now_ms
from storage.tables import CHUNK_IS_PENDING, JOB_IS_OPEN, ChunkRow, JobRow
from storage.underway import under_way

#: A job of at most so many chunks is small: it goes before large ones of the same key.
SMALL = 4

#: Share of a key's turns in which its small jobs go first; in the others the oldest job does, so that none starves.
_SMALL_FIRST = 0.75

#: PostgreSQL: pass over rows that another transaction is about to take; SQLite has one writer and ignores it.
SKIP_LOCKED: dict[str, Any] = {"of": ChunkRow, "skip_locked": True}


#: Pending chunks that were chosen, best first: their estimated tokens by job and number.
Chosen = dict[tuple[str, int], int]


def choose(connection: Connection, model_id: str, priority: Priority, room: int, beside: str | None = None) -> Chosen:
    """Return up to `room` pending chunks; locks them where rows are locked.

    Args:
        connection: A transaction.
        model_id: The model identity.
        priority: Which of its queues.
        room: At most so many.
        beside: A key that has had its share already; only the others' chunks are chosen.
    """
    queue = {"model_id": model_id, "priority": priority}
    keys = [key for key in connection.execute(_OPEN_KEYS, queue).scalars() if key != beside]
    known = under_way(connection, queue)
    if len(keys) > 1:
        # Who has the least under way comes first; a share of one chunk goes round by chance, not by name.
        out = known.counts(connection, queue)
        keys.sort(key=lambda key: (out.get(key, 0), random.random()))
    shares: dict[str, Chosen] = {}
    left = room
    for place, key in enumerate(keys):
        if left > 0:
            share = -(-left // (len(keys) - place))
            shares[key] = _best(connection, pending(model_id, priority, key), share)
            left -= len(shares[key])
    if len(keys) > 1:
        for key in keys:
            if left > 0:
                more = _best(connection, pending(model_id, priority, key), room)
                left -= len(more.keys() - shares[key].keys())
                shares[key] |= more
    # Of what is chosen beside a message a claim takes as much as it has room for, which nobody knows here.
    for key in shares if beside is None and len(keys) > 1 else ():
        known.add(key, len(shares[key]))
    # In turns, so that whoever takes only the first ones is fair too.
    turns = zip_longest(*(share.items() for share in shares.values()))
    return dict(islice((chunk for turn in turns for chunk in turn if chunk is not None), room))


def due() -> ColumnElement[bool]:
    """Whether a chunk may be tried now, its back-off over."""
    return or_(ChunkRow.not_before.is_(None), ChunkRow.not_before <= now_ms())


def not_expired() -> ColumnElement[bool]:
    """Whether a job still has time; the reconciler ends it a moment after."""
    return or_(JobRow.expires_at.is_(None), JobRow.expires_at > now_ms())


def anything_pending(connection: Connection, model_id: str, priority: Priority) -> bool:
    """Whether a model's queue has anything to do."""
    return connection.execute(_ANYTHING, {"model_id": model_id, "priority": priority}).first() is not None


def pending_chunks() -> Any:
    """Return the query for the chunks of one key that a model's queue should do next, the oldest job's first."""
    return (
        _pending().where(JobRow.key_id == bindparam("key_id")).order_by(JobRow.created_at, JobRow.id, ChunkRow.number)
    )


def pending(model_id: str, priority: Priority, key_id: str) -> dict[str, Any]:
    """Return what `pending_chunks` is run with."""
    return {"model_id": model_id, "priority": priority, "key_id": key_id}


def _best(connection: Connection, queue: dict[str, Any], share: int) -> Chosen:
    rows: list[Any] = []
    if random.random() < _SMALL_FIRST:
        rows += connection.execute(_OF_SMALL_JOBS, queue | {"share": share})
    if len(rows) < share:
        rows += connection.execute(_OLDEST, queue | {"share": share})
    found = {(row.job_id, row.number): row.token_estimate for row in rows}
    return dict(islice(found.items(), share))


def _pending() -> Any:
    return (
        select(ChunkRow.job_id, ChunkRow.number, ChunkRow.token_estimate)
        .join(JobRow, JobRow.id == ChunkRow.job_id)
        .where(*_IN_QUEUE, JOB_IS_OPEN, CHUNK_IS_PENDING, due(), not_expired())
    )


def _open_keys() -> Any:
    """Return the query for the keys with open jobs: one look into the index each, however many jobs they have."""
    smallest = select(func.min(JobRow.key_id).label("key_id")).where(*_IN_QUEUE, JOB_IS_OPEN)
    found = smallest.cte("found", recursive=True)
    following = smallest.where(JobRow.key_id > found.c.key_id).scalar_subquery()
    found = found.union_all(select(following).where(found.c.key_id.is_not(None)))
    return select(found.c.key_id).where(found.c.key_id.is_not(None))


# Statements of every message, put together once.

_IN_QUEUE = (JobRow.model_id == bindparam("model_id"), JobRow.priority == bindparam("priority"))
_ANYTHING = _pending().limit(1)
_OPEN_KEYS = _open_keys()
_OLDEST = pending_chunks().limit(bindparam("share")).with_for_update(**SKIP_LOCKED)
_OF_SMALL_JOBS = _OLDEST.where(JobRow.chunk_count <= SMALL)
