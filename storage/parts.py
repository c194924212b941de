"""The store of jobs that are submitted in parts: each part is there as a whole or not at all.

Chunks of a part are written while it comes; the row of the part, written with the last of them, makes it count. What
lies behind the last part's end belongs to one that was cut, and is removed before the next one begins. Whoever begins
takes a token; a writer who is followed by another writes nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from storage.arrivals import take_off
from storage.chunks import NewChunk, packed, write_chunks
from storage.contract import failpoints
from storage.contract.errors import Conflict, UnknownJob, WrongState
from storage.contract.states import ChunkState, JobState
from storage.database import Database
from storage.faults import retried
from storage.newjobs import NewJob, open_job
from storage.nextends import end_told
from storage.parttables import PartedJobRow, PartRow
from storage.quotas import admit
from storage.sealing import seal
from storage.tables import ChunkRow, InputRow, JobRow
from storage.takings import IS_THERE, Taking, ends, guard, require_parted, take

#: Chunks of a part that was cut that are removed in one transaction.
_STEP = 64

#: Chunks whose ids' hashes are read in one transaction.
_HASHES = 256


@dataclass(frozen=True, slots=True)
class Part:
    """A part that is whole.

    Args:
        number: Its number, from 0.
        first: Position of its first item in the job.
        items: How many it has.
        chunk_end: Number of the chunk that follows its last one.
        sha256: Of its bytes as they came, in hexadecimal.
    """

    number: int
    first: int
    items: int
    chunk_end: int
    sha256: str


class PartStore:
    """Every read and write of parts."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def open(self, job: NewJob, on_invalid: str, payload_hash: str | None = None, key: str | None = None) -> bool:
        """Open a job that takes parts.

        Args:
            job: What it is submitted with, but for whether it has ids.
            on_invalid: `refuse` or `keep`.
            payload_hash: Stands for all that was asked, for the idempotency key.
            key: Its idempotency key.

        Returns:
            False when the idempotency key has been used by another job.
        """
        try:
            with end_told(self._db), self._db.write() as connection:
                open_job(connection, job, payload_hash=payload_hash, idempotency_key=key)
                parted = insert(PartedJobRow).values(job_id=job.id, token=0, on_invalid=on_invalid)
                connection.execute(parted)
                admit(connection, job.id, job.key_id, sealed=False)
        except IntegrityError:
            return False
        return True

    def list(self, job_id: str) -> list[Part]:
        """Return the parts that are there, in order.

        Raises:
            WrongState: When the job is not submitted in parts.
        """
        with self._db.read() as connection:
            require_parted(connection, job_id)
            return [Part(*row) for row in connection.execute(_PARTS.where(PartRow.job_id == job_id))]

    def get(self, job_id: str, number: int) -> Part | None:
        """Return a part, or None where it is not there."""
        with self._db.read() as connection:
            one = _PARTS.where(PartRow.job_id == job_id, PartRow.number == number)
            row = connection.execute(one).first()
        return None if row is None else Part(*row)

    def next(self, job_id: str) -> int:
        """Return the number of the part that is due.

        Raises:
            WrongState: When the job is not submitted in parts.
        """
        with self._db.read() as connection:
            require_parted(connection, job_id)
            return ends(connection, job_id)[0]

    def begin(self, job_id: str) -> Taking:
        """Take the right to write the next part, and remove what a part that was cut has left.

        Raises:
            WrongState: When the job takes no parts.
        """
        taking = self._take(job_id)
        while self._clean(taking):
            pass
        return taking

    @retried
    def append(self, taking: Taking, chunks: Sequence[NewChunk]) -> None:
        """Write some chunks of the part that is due.

        Raises:
            WrongState: When the job takes no parts any more.
            Conflict: When another writer has followed.
            QuotaExceeded: When its key would then keep too many texts.
        """
        rows = packed(taking.job_id, chunks)
        with self._db.write() as connection:
            key_id = guard(connection, taking, rows[0])
            write_chunks(connection, rows)
            admit(connection, taking.job_id, key_id, sealed=False)
        failpoints.reach("submit.appended")

    @retried
    def finish(self, taking: Taking, rest: Sequence[NewChunk], part: Part, has_ids: bool) -> None:
        """Write the last chunks of a part, and with them the part.

        Args:
            taking: The right to.
            rest: The last chunks.
            part: The part.
            has_ids: Whether its items have callers' ids.

        Raises:
            WrongState: When the job takes no parts any more.
            Conflict: When another writer has followed.
            QuotaExceeded: When its key would then keep too many texts.
        """
        rows = packed(taking.job_id, rest)
        with self._db.write() as connection:
            key_id = guard(connection, taking, rows[0])
            if rest:
                write_chunks(connection, rows)
            values: dict[str, Any] = {"number": part.number, "first": part.first, "items": part.items}
            values |= {"chunk_end": part.chunk_end, "sha256": part.sha256}
            connection.execute(insert(PartRow).values(job_id=taking.job_id, **values))
            if part.number == 0:
                connection.execute(update(JobRow).where(JobRow.id == taking.job_id).values(has_ids=has_ids))
            admit(connection, taking.job_id, key_id, sealed=False)

    def drop(self, taking: Taking) -> None:
        """Remove what was written of a part that will not be whole.

        That it counts no more is written first: this finds room where removing the texts, which are overwritten, does
        not.

        Raises:
            WrongState: When the job takes no parts any more.
            Conflict: When another writer has followed.
            StorageFull: When there is no room to remove it; it goes with the next part.
        """
        behind = (ChunkRow.job_id == taking.job_id, ChunkRow.number >= taking.chunks)
        with self._db.write() as connection:
            guard(connection, taking)
            take_off(connection, taking.job_id, ChunkRow.number >= taking.chunks)
            connection.execute(update(ChunkRow).where(*behind).values(state=ChunkState.SPLIT))
        while self._clean(taking):
            pass

    def seal(self, job_id: str, parts: int | None = None, items: int | None = None) -> bool:
        """Accept the job with the parts that are there.

        Args:
            job_id: The job.
            parts: How many there should be; None: however many there are.
            items: How many items there should be; the same.

        Returns:
            Whether this has sealed it; False when it was sealed before, with the same.

        Raises:
            WrongState: When it has no parts, or is not submitted in parts.
            Conflict: When there are others than there should be, or one is being written.
        """
        if self._is_sealed(job_id, parts, items):
            return False
        try:
            taking = self.begin(job_id)
            _compare(taking.next, taking.items, parts, items)
            if not taking.next:
                raise WrongState(f"Job {job_id} has no parts yet.", f"Send the first: PUT /v1/jobs/{job_id}/parts/0.")
            with end_told(self._db), self._db.write() as connection:
                guard(connection, taking)
                seal(connection, job_id, taking.items, taking.chunks)
        except WrongState:
            # Another request may have sealed it a moment before.
            if self._is_sealed(job_id, parts, items):
                return False
            raise
        failpoints.reach("submit.sealed")
        return True

    def id_hashes(self, job_id: str) -> Iterator[NDArray[np.uint64]]:
        """Yield the hashes of all ids that are there, chunk by chunk, of items refused at the door too."""
        last = -1
        wanted = select(InputRow.number, InputRow.id_hashes).where(InputRow.job_id == job_id).order_by(InputRow.number)
        while True:
            with self._db.read() as connection:
                rows = connection.execute(wanted.where(InputRow.number > last).limit(_HASHES)).all()
            for number, blob in rows:
                last = number
                if blob is not None:
                    yield np.frombuffer(blob, dtype="<u8")
            if len(rows) < _HASHES:
                return

    @retried
    def _take(self, job_id: str) -> Taking:
        with self._db.write() as connection:
            return take(connection, job_id)

    @retried
    def _clean(self, taking: Taking) -> bool:
        """Remove some of the chunks behind the last part; return whether there may be more."""
        behind = select(ChunkRow.number).where(ChunkRow.job_id == taking.job_id, ChunkRow.number >= taking.chunks)
        with self._db.read() as connection:
            if connection.execute(behind.limit(1)).first() is None:
                return False
        with self._db.write() as connection:
            guard(connection, taking)
            numbers = list(connection.execute(behind.limit(_STEP)).scalars())
            take_off(connection, taking.job_id, ChunkRow.number.in_(numbers))
            for row in (InputRow, ChunkRow):
                connection.execute(delete(row).where(row.job_id == taking.job_id, row.number.in_(numbers)))
        return True

    def _is_sealed(self, job_id: str, parts: int | None, items: int | None) -> bool:
        with self._db.read() as connection:
            state = connection.execute(select(JobRow.state).where(JobRow.id == job_id, IS_THERE)).scalar()
            if state is None:
                raise UnknownJob(job_id)
            require_parted(connection, job_id)
            if state == JobState.ACCEPTING:
                return False
            there = ends(connection, job_id)
        _compare(there[0], there[1], parts, items)
        return True


def _compare(parts: int, items: int, wanted_parts: int | None, wanted_items: int | None) -> None:
    if wanted_parts not in (None, parts) or wanted_items not in (None, items):
        raise Conflict(f"The job has {parts} parts with {items} items.", "Send what is missing, or begin anew.")


_PARTS = select(PartRow.number, PartRow.first, PartRow.items, PartRow.chunk_end, PartRow.sha256).order_by(
    PartRow.number
)
