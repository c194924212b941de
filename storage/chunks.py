"""The store of chunks before they are leased: append them, pick what is sent next, take back what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, tuple_, update

from storage import counters
from storage.choice import anything_pending, choose
from storage.contract import failpoints
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.contract.states import ChunkState
from storage.database import Database, now_ms
from storage.faults import retried
from storage.tables import CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED, CHUNK_IS_PENDING, ChunkRow, InputRow, JobRow, ResultRow
from storage.workers import live_workers

#: Bulk messages in Redis for each live worker process, beyond those being worked on: its four bulk task threads' worth.
WINDOW_PER_WORKER = 4


class ChunkStore:
    """Every write of chunks that no worker has leased."""

    def __init__(self, database: Database) -> None:
        self._db = database

    @retried
    def dispatch(self, model_id: str, priority: Priority, most: int | None = None) -> list[Pointer]:
        """Mark pending chunks as sent, as far as the window of a model's queue has room; the caller then sends them.

        Args:
            model_id: The model identity.
            priority: Which of its queues.
            most: Send at most so many; default: what the window holds.

        Returns:
            Pointers to send, best first; empty where nobody serves the model or the window is full.
        """
        with self._db.read() as connection:
            room = _room(connection, model_id, priority)
            if room <= 0 or not anything_pending(connection, model_id, priority):
                return []
        with self._db.write() as connection:
            room = _room(connection, model_id, priority)
            room = room if most is None else min(room, most)
            if room <= 0:
                return []
            keys = choose(connection, model_id, priority, room)
            values = {"state": ChunkState.DISPATCHED, "dispatched_at": now_ms()}
            connection.execute(among(keys, ChunkState.PENDING).values(values))
            failpoints.reach("dispatch.marking")
        return [Pointer(job_id, number) for job_id, number in keys]

    @retried
    def undispatch(self, pointers: Sequence[Pointer]) -> None:
        """Take back what could not be sent."""
        keys = [(pointer.job_id, pointer.chunk) for pointer in pointers]
        with self._db.write() as connection:
            connection.execute(among(keys, ChunkState.DISPATCHED).values(state=ChunkState.PENDING))

    @retried
    def redispatch(self, older_than: int, model_id: str | None = None) -> int:
        """Take back messages that nobody has answered; return how many.

        Args:
            older_than: Milliseconds since they were sent.
            model_id: Only those of one model; default all.
        """
        lost: list[ColumnElement[bool]] = [
            CHUNK_IS_DISPATCHED,
            ChunkRow.dispatched_at < now_ms() - older_than,
        ]
        if model_id is not None:
            lost.append(ChunkRow.job_id.in_(select(JobRow.id).where(JobRow.model_id == model_id)))
        with self._db.read() as connection:
            if not connection.execute(select(ChunkRow.number).where(*lost).limit(1)).first():
                return 0
        with self._db.write() as connection:
            count = connection.execute(update(ChunkRow).where(*lost).values(state=ChunkState.PENDING)).rowcount
        counters.count("messages_resent", count)
        return count

    def out(self, model_id: str) -> int:
        """Return how many chunks of a model are marked as sent and not claimed."""
        sent = select(func.count()).select_from(ChunkRow).join(JobRow, JobRow.id == ChunkRow.job_id)
        with self._db.read() as connection:
            return connection.execute(sent.where(CHUNK_IS_DISPATCHED, JobRow.model_id == model_id)).scalar_one()

    def open_by_state(self) -> dict[str, int]:
        """Return how many chunks are pending, dispatched and leased."""
        found = {}
        with self._db.read() as connection:
            # One by one: each has a partial index of its own.
            for state, condition in _OPEN.items():
                count = select(func.count()).select_from(ChunkRow).where(condition)
                found[state] = connection.execute(count).scalar_one()
        return found


#: The condition of each open state, written as the partial indexes have it.
_OPEN = {"pending": CHUNK_IS_PENDING, "dispatched": CHUNK_IS_DISPATCHED, "leased": CHUNK_IS_LEASED}


def among(keys: Sequence[tuple[str, int]], state: ChunkState) -> Any:
    """Return the update of the chunks of these keys that are still in `state`."""
    return update(ChunkRow).where(have_keys(ChunkRow, keys), ChunkRow.state == state)


def have_keys(row: type[ChunkRow | InputRow | ResultRow], keys: Sequence[tuple[str, int]]) -> ColumnElement[bool]:
    """Return the condition that a row belongs to one of these chunks, each a job and a number."""
    # The jobs and the numbers by themselves too: SQLite would else walk all chunks of that state.
    jobs, numbers = {job_id for job_id, _ in keys}, {number for _, number in keys}
    return row.job_id.in_(jobs) & row.number.in_(numbers) & tuple_(row.job_id, row.number).in_(keys)


def _room(connection: Connection, model_id: str, priority: Priority) -> int:
    workers = live_workers(connection)[model_id]
    sent = (
        select(func.count())
        .select_from(ChunkRow)
        .join(JobRow, JobRow.id == ChunkRow.job_id)
        .where(CHUNK_IS_DISPATCHED, JobRow.model_id == model_id, JobRow.priority == priority)
    )
    return workers * WINDOW_PER_WORKER - int(connection.execute(sent).scalar_one()) if workers else 0
