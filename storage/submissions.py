"""The store of submissions: jobs on their way in, which nobody sees before they are sealed.

The texts of a long one come in several transactions. A short one is created, filled and sealed in a single one, because
each transaction waits for the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Connection, bindparam, insert, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from storage import texts
from storage.contract import failpoints
from storage.contract.errors import WrongState
from storage.contract.models import Priority
from storage.contract.states import ChunkState, JobState
from storage.database import Database, now_ms
from storage.outcomes import ItemError
from storage.results import pack_errors
from storage.tables import ChunkRow, InputRow, JobRow
from storage.workers import bind_to_known_model


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job on its way into storage.

    Args:
        id: Its UUIDv7.
        model: Name of the model asked for.
        revision: Revision asked for, or None.
        model_id: The model identity, or None where no worker has ever registered the model.
        options: The job's options as a JSON object.
        priority: Which queue it waits in.
        has_ids: Whether its items have callers' ids.
        key_id: Whose job it is: what is under way is shared fairly between keys.
        expires_in: Seconds after which it ends, whatever is left to do; None: never.
    """

    id: str
    model: str
    revision: str | None
    model_id: str | None
    options: dict[str, Any]
    priority: Priority = Priority.BULK
    has_ids: bool = False
    key_id: str = ""
    expires_in: float | None = None


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


class SubmissionStore:
    """Every write of jobs that are being submitted."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(self, job: NewJob) -> None:
        """Open a job that takes texts; where it is there already, in whatever state, it stays as it is."""
        with self._db.write() as connection:
            _create(connection, job)

    def append(self, job_id: str, chunks: Sequence[NewChunk]) -> None:
        """Write chunks and their texts to a job that is still being submitted, in one transaction.

        Raises:
            WrongState: When the job is no longer being submitted (it was purged, or sealed).
        """
        rows = _rows(job_id, chunks)
        with self._db.write() as connection:
            _append(connection, job_id, rows)
        failpoints.reach("submit.appended")

    def seal(
        self, job_id: str, total: int, chunks: int, payload_hash: str | None = None, idempotency_key: str | None = None
    ) -> bool:
        """Accept the job: from here on every text of it is safe and will reach an outcome.

        Returns:
            False when the idempotency key has been used meanwhile by another job; this one is then still open.

        Raises:
            WrongState: When the job is no longer being submitted.
        """
        try:
            with self._db.write() as connection:
                _seal(connection, job_id, total, chunks, payload_hash, idempotency_key)
        except IntegrityError:
            return False
        failpoints.reach("submit.sealed")
        return True

    def accept(
        self,
        job: NewJob,
        chunks: Sequence[NewChunk],
        payload_hash: str | None = None,
        idempotency_key: str | None = None,
    ) -> bool:
        """Create, fill and seal a job in one transaction.

        Returns:
            False when the idempotency key has been used by another job; nothing was written then.
        """
        rows, total = _rows(job.id, chunks), sum(len(chunk.texts) for chunk in chunks)
        try:
            with self._db.write() as connection:
                _create(connection, job)
                _append(connection, job.id, rows)
                failpoints.reach("submit.appended")
                _seal(connection, job.id, total, len(chunks), payload_hash, idempotency_key)
        except IntegrityError:
            if idempotency_key is None:
                raise
            return False
        failpoints.reach("submit.sealed")
        return True


#: Rows of chunks, and of their texts.
_Rows = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def _rows(job_id: str, chunks: Sequence[NewChunk]) -> _Rows:
    """Return what is to be inserted; packed before any transaction, whose end others wait for."""
    return [_chunk_row(job_id, chunk) for chunk in chunks], [_input_row(job_id, chunk) for chunk in chunks]


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


def _create(connection: Connection, job: NewJob) -> None:
    row = {
        "id": job.id,
        "model": job.model,
        "revision": job.revision,
        "model_id": job.model_id,
        "options": job.options,
        "priority": job.priority,
        "has_ids": job.has_ids,
        "key_id": job.key_id,
        "life": None if job.expires_in is None else int(job.expires_in * 1000),
    }
    connection.execute(_CREATE[connection.dialect.name], row)


def _append(connection: Connection, job_id: str, rows: _Rows) -> None:
    if not connection.execute(_TOUCH, {"this": job_id}).rowcount:
        raise WrongState(f"Job {job_id} takes no more texts.", "Submit again.")
    chunk_rows, input_rows = rows
    connection.execute(insert(ChunkRow), chunk_rows)
    connection.execute(insert(InputRow), input_rows)


def _seal(
    connection: Connection, job_id: str, total: int, chunks: int, payload_hash: str | None, idempotency_key: str | None
) -> None:
    values = {"total": total, "chunk_count": chunks, "payload_hash": payload_hash, "idempotency_key": idempotency_key}
    if not connection.execute(_SEAL, {"this": job_id, **values}).rowcount:
        raise WrongState(f"Job {job_id} takes no more texts.", "Submit again.")
    bind_to_known_model(connection, job_id)
    failpoints.reach("submit.sealing")


# The statements are made once: making one costs more than running it.


def _creation(insert: Any) -> Any:
    expires_at = now_ms() + bindparam("life", type_=BigInteger)
    values = {"state": JobState.ACCEPTING, "created_at": now_ms(), "touched_at": now_ms(), "expires_at": expires_at}
    return insert(JobRow).values(values).on_conflict_do_nothing(index_elements=["id"])


_CREATE = {"sqlite": _creation(sqlite.insert), "postgresql": _creation(postgresql.insert)}

_ACCEPTING = (JobRow.id == bindparam("this"), JobRow.state == JobState.ACCEPTING, JobRow.deleted_at.is_(None))

_TOUCH = update(JobRow).where(*_ACCEPTING).values(touched_at=now_ms())

#: Its time begins with its acceptance, however long the submission took.
_SEAL = (
    update(JobRow)
    .where(*_ACCEPTING)
    .values(state=JobState.QUEUED, created_at=now_ms(), expires_at=JobRow.expires_at + now_ms() - JobRow.created_at)
)
