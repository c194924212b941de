"""The store of chunks before they are leased: append them, pick what is sent next, take back what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, select, update

from storage import counters, naming, texts
from storage.arrivals import more_counts
from storage.choice import anything_pending, choose
from storage.contract import failpoints
from storage.contract.errors import WrongState
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.contract.states import ChunkState, JobState
from storage.database import Database, now_ms
from storage.faults import retried
from storage.outcomes import ItemError
from storage.quotas import admit
from storage.results import pack_errors
from storage.tables import (
    CHUNK_IS_DISPATCHED,
    CHUNK_IS_LEASED,
    CHUNK_IS_PENDING,
    CHUNKS,
    INPUTS,
    JOB_IS_OPEN,
    ChunkRow,
    JobRow,
    WorkerRow,
)
from storage.workers import IS_LIVE

#: Bulk messages in Redis for each live worker process, beyond those being worked on: its four bulk task threads' worth.
WINDOW_PER_WORKER = 4


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk on its way into storage.

    Args:
        number: Its number in the job, from 0.
        first: Position of its first item.
        texts: UTF-8 of each item; empty where the item is invalid.
        token_estimate: Tokens, estimated from bytes.
        ids: The callers' ids, or None when the job has none.
        invalid: Errors of items refused at the door, by position in the chunk.
        id_hashes: uint64, shape (items,): `texts.hash_ids` of the ids, or None when the job has none.
    """

    number: int
    first: int
    texts: list[bytes]
    token_estimate: int
    ids: list[str] | None
    invalid: dict[int, ItemError]
    id_hashes: NDArray[np.uint64] | None = None


class ChunkStore:
    """Every write of chunks that no worker has leased."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def append(self, job_id: str, chunks: Sequence[NewChunk]) -> None:
        """Write chunks and their texts to a job that is still being submitted, in one transaction.

        Raises:
            WrongState: When the job is no longer being submitted (it was purged, or sealed).
            QuotaExceeded: When its key would then keep too many texts.
        """
        # Packed before the transaction: other writers of a SQLite file wait for its end.
        rows = packed(job_id, chunks)
        with self._db.write() as connection:
            accepting = (JobRow.id == job_id, JobRow.state == JobState.ACCEPTING, JobRow.deleted_at.is_(None))
            changed = {"touched_at": now_ms(), **more_counts(rows[0])}
            touched = update(JobRow).where(*accepting).values(changed).returning(JobRow.key_id)
            key_id = connection.execute(touched).scalar()
            if key_id is None:
                raise WrongState(f"Job {job_id} takes no more texts.", "Submit again.")
            write_chunks(connection, rows)
            admit(connection, job_id, key_id, sealed=False)
        failpoints.reach("submit.appended")

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
        with self._db.write(durable=False) as connection:
            return mark_next(connection, model_id, priority, most)

    @retried
    def undispatch(self, pointers: Sequence[Pointer]) -> None:
        """Take back what could not be sent."""
        with self._db.write(durable=False) as connection:
            connection.execute(_UNDISPATCH, naming.chunks((pointer.job_id, pointer.chunk) for pointer in pointers))

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
            # Whatever is out is of an open job; all that the model ever did are not looked through.
            lost.append(ChunkRow.job_id.in_(select(JobRow.id).where(JobRow.model_id == model_id, JOB_IS_OPEN)))
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
        """Return how many chunks are pending, dispatched and leased; of an ended job none counts."""
        found = {}
        with self._db.read() as connection:
            # One by one: each has a partial index of its own.
            for state, condition in _OPEN.items():
                count = select(func.count()).select_from(ChunkRow).where(condition, ChunkRow.job_id.not_in(_UNSETTLED))
                found[state] = connection.execute(count).scalar_one()
        return found


def mark_next(connection: Connection, model_id: str, priority: Priority, most: int | None = None) -> list[Pointer]:
    """Mark, inside a running transaction, what the window of a queue has room for as sent; return what to send.

    Args:
        connection: The transaction.
        model_id: The model identity.
        priority: Which of its queues.
        most: Mark at most so many; default: what the window holds.
    """
    room = _room(connection, model_id, priority)
    room = room if most is None else min(room, most)
    keys = list(choose(connection, model_id, priority, room)) if room > 0 else []
    if keys:
        connection.execute(_DISPATCH, naming.chunks(keys))
        failpoints.reach("dispatch.marking")
    return [Pointer(job_id, number) for job_id, number in keys]


#: Jobs that have ended and not all of whose chunks are settled; see `storage/settling.py`.
_UNSETTLED = select(JobRow.id).where(JobRow.unsettled_after.is_not(None))

#: The condition of each open state, written as the partial indexes have it.
_OPEN = {"pending": CHUNK_IS_PENDING, "dispatched": CHUNK_IS_DISPATCHED, "leased": CHUNK_IS_LEASED}


#: The rows of chunks, and those of their texts.
PackedChunks = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def packed(job_id: str, chunks: Sequence[NewChunk]) -> PackedChunks:
    """Return the rows of new chunks."""
    return [_chunk_row(job_id, chunk) for chunk in chunks], [_input_row(job_id, chunk) for chunk in chunks]


def write_chunks(connection: Connection, rows: PackedChunks) -> None:
    """Write new chunks inside the transaction that has checked that their job is being submitted, or begins it."""
    connection.execute(_NEW_CHUNKS, rows[0])
    connection.execute(_NEW_INPUTS, rows[1])


def _chunk_row(job_id: str, chunk: NewChunk) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "number": chunk.number,
        "state": ChunkState.PENDING,
        "first": chunk.first,
        "size": len(chunk.texts),
        "token_estimate": chunk.token_estimate,
        "invalid": len(chunk.invalid),
        "failed": len(chunk.invalid),
    }


def _input_row(job_id: str, chunk: NewChunk) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "number": chunk.number,
        "texts": texts.pack(chunk.texts),
        "ids": None if chunk.ids is None else texts.pack_ids(chunk.ids),
        "id_hashes": None if chunk.id_hashes is None else chunk.id_hashes.astype("<u8").tobytes(),
        "invalid": pack_errors(chunk.invalid) or None,
    }


def _room(connection: Connection, model_id: str, priority: Priority) -> int:
    found = connection.execute(_WINDOW, {"model_id": model_id, "priority": priority}).one()
    return int(found.workers * WINDOW_PER_WORKER - found.sent)


# Statements of every message, put together once.

_NEW_CHUNKS, _NEW_INPUTS = insert(CHUNKS), insert(INPUTS)

_OF_MODEL = JobRow.model_id == bindparam("model_id")
_SENT = select(func.count()).select_from(ChunkRow).join(JobRow, JobRow.id == ChunkRow.job_id).where(CHUNK_IS_DISPATCHED)
_WINDOW = select(
    select(func.count()).where(IS_LIVE, WorkerRow.model_id == bindparam("model_id")).scalar_subquery().label("workers"),
    _SENT.where(_OF_MODEL, JobRow.priority == bindparam("priority")).scalar_subquery().label("sent"),
)
_DISPATCH = (
    update(CHUNKS)
    .where(naming.named(ChunkRow), CHUNK_IS_PENDING)
    .values(state=ChunkState.DISPATCHED, dispatched_at=now_ms())
)
_UNDISPATCH = update(CHUNKS).where(naming.named(ChunkRow), CHUNK_IS_DISPATCHED).values(state=ChunkState.PENDING)
