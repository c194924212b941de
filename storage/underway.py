"""How much of each key is under way in a queue, counted once a second by each process, and added to in between.

Exact counts would be asked for with each message, over all that is sent or leased: fairness does not need them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, bindparam, func, or_, select

from storage.tables import CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED, ChunkRow, JobRow

#: How long counts are believed, in seconds.
_BELIEVED = 1.0


class UnderWay:
    """The chunks of one queue that are sent or leased, by key."""

    def __init__(self) -> None:
        self._until = 0.0
        self._counts: Counter[str] = Counter()

    def counts(self, connection: Connection, queue: dict[str, Any]) -> Counter[str]:
        """Return them, as they were counted up to a second ago.

        Args:
            connection: A transaction.
            queue: `model_id` and `priority` of the queue.
        """
        if time.monotonic() >= self._until:
            # Said first: of several threads one counts, and the others take what they find.
            self._until = time.monotonic() + _BELIEVED
            self._counts = Counter({row.key_id: row.chunks for row in connection.execute(_OUT_BY_KEY, queue)})
        return self._counts

    def add(self, key_id: str, chunks: int) -> None:
        """Note that some more of a key are about to be sent: whoever chooses next has to know."""
        self._counts[key_id] += chunks


#: By database and queue: a process may know several.
_known: WeakKeyDictionary[Engine, dict[tuple[Any, ...], UnderWay]] = WeakKeyDictionary()
_lock = threading.Lock()


def under_way(connection: Connection, queue: dict[str, Any]) -> UnderWay:
    """Return what is known of a queue."""
    with _lock:
        return _known.setdefault(connection.engine, {}).setdefault(tuple(queue.values()), UnderWay())


_OUT_BY_KEY = (
    select(JobRow.key_id, func.count().label("chunks"))
    .join(ChunkRow, ChunkRow.job_id == JobRow.id)
    .where(or_(CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED))
    .where(JobRow.model_id == bindparam("model_id"), JobRow.priority == bindparam("priority"))
    .group_by(JobRow.key_id)
)
