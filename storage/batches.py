"""The store of batches: what each is, which jobs its lines became, and who works at it now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import zstandard
from sqlalchemy import ColumnElement, delete, insert, or_, select, update

from storage.batchrecords import Batch, Group, Line
from storage.contract.errors import Conflict, NotFound
from storage.counted import count_at_once
from storage.database import Database, now_ms
from storage.faults import retried
from storage.files import made_id
from storage.filetables import BATCH_IS_UNFINISHED, UNFINISHED, BatchGroupRow, BatchLinesRow, BatchRow, FileRow
from storage.quotas import admit_bytes
from storage.tables import JOB_IS_UNFINISHED, JobRow

FINAL = ("completed", "failed", "expired", "cancelled")

#: How long one who works at a batch is left alone, in milliseconds.
_LEASE = 30_000

#: Lines kept in one row.
_LINES = 1000

#: Batches looked through in one go.
_PAGE = 256


class BatchStore:
    """Every read and write of batches."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(
        self,
        input_file_id: str,
        endpoint: str,
        window: str,
        seconds: int,
        *,
        key_id: str = "",
        labels: dict[str, str] | None = None,
        output_life: int | None = None,
    ) -> Batch:
        """Take a batch, which is then worked at in the background.

        Args:
            input_file_id: The file of its lines.
            endpoint: Where each line would be sent.
            window: The completion window as it was written.
            seconds: The same in seconds.
            key_id: Whose it is.
            labels: The caller's `metadata`.
            output_life: Seconds that its output is kept; None: until it is deleted.

        Raises:
            QuotaExceeded: When the outputs of earlier ones are more than its key may keep.
        """
        values: dict[str, Any] = {"id": made_id("batch_", self._db.clock), "key_id": key_id, "state": "validating"}
        values |= {"input_file_id": input_file_id, "endpoint": endpoint, "completion_window": window}
        values |= {"labels": labels, "output_life": output_life, "total": 0, "completed": 0, "failed": 0, "tokens": 0}
        with self._db.write() as connection:
            times = {"created_at": now_ms(), "expires_at": now_ms() + seconds * 1000}
            connection.execute(insert(BatchRow).values(values | times))
            admit_bytes(connection, key_id)
        return self.get(values["id"])

    def get(self, batch_id: str, sees: str | None = None) -> Batch:
        """Return a batch.

        Args:
            batch_id: Its id.
            sees: Whose it must be; None: anybody's.

        Raises:
            NotFound: When there is none that the caller sees.
        """
        wanted = _BATCH.where(BatchRow.id == batch_id)
        if sees is not None:
            wanted = wanted.where(BatchRow.key_id == sees)
        with self._db.read() as connection:
            row = connection.execute(wanted).first()
        if row is None:
            raise NotFound("There is no such batch.", "GET /v1/batches lists them.")
        return _batch(row)

    def page(self, limit: int, after: str | None = None, sees: str | None = None) -> list[Batch]:
        """Return batches, newest first.

        Args:
            limit: At most so many.
            after: Only those made before the one of this id.
            sees: Only those of this owner; None: of all.
        """
        wanted = _BATCH.order_by(BatchRow.id.desc()).limit(limit)
        if after is not None:
            wanted = wanted.where(BatchRow.id < after)
        if sees is not None:
            wanted = wanted.where(BatchRow.key_id == sees)
        with self._db.read() as connection:
            return [_batch(row) for row in connection.execute(wanted)]

    @retried
    def cancel(self, batch_id: str, sees: str | None = None) -> Batch:
        """Wish that a batch be cancelled; whoever works at it does so. Cancelled twice is the same.

        Raises:
            NotFound: When there is none that the caller sees.
            Conflict: When it has ended otherwise.
        """
        self.get(batch_id, sees)
        open_ = (BatchRow.id == batch_id, BatchRow.state.in_(UNFINISHED[:2]), BatchRow.cancelling_at.is_(None))
        with self._db.write() as connection:
            connection.execute(update(BatchRow).where(*open_).values(cancelling_at=now_ms()))
        batch = self.get(batch_id)
        if batch.cancelling_at is None:
            raise Conflict(f"The batch is {batch.state} and cannot be cancelled.")
        return batch

    def unfinished(self) -> Iterator[Batch]:
        """Yield all batches that are not at their end and that nobody works at, oldest first."""
        free = or_(BatchRow.lease_expires.is_(None), BatchRow.lease_expires < now_ms())
        wanted = _BATCH.where(BATCH_IS_UNFINISHED, free).order_by(BatchRow.id).limit(_PAGE)
        after = ""
        while True:
            with self._db.read() as connection:
                page = [_batch(row) for row in connection.execute(wanted.where(BatchRow.id > after))]
            yield from page
            # However many only wait, the one behind them has its turn too.
            if len(page) < _PAGE:
                return
            after = page[-1].id

    def busy(self) -> set[str]:
        """Return batches one of whose jobs has not ended."""
        at_work = (JOB_IS_UNFINISHED, JobRow.deleted_at.is_(None), JobRow.kind == "batch")
        wanted = select(BatchGroupRow.batch_id).join(JobRow, JobRow.id == BatchGroupRow.job_id).where(*at_work)
        with self._db.read() as connection:
            return set(connection.execute(wanted.distinct()).scalars())

    def ended(self) -> list[str]:
        """Return batches that are at their end but for their jobs, which can go."""
        # From the few groups that are there to their batches, not through all batches that ever were.
        left = BatchRow.id.in_(select(BatchGroupRow.batch_id).distinct())
        with self._db.read() as connection:
            found = connection.execute(select(BatchRow.id).where(left, BatchRow.state.in_(FINAL)).limit(64))
            return list(found.scalars())

    @retried
    def claim(self, batch_id: str, owner: str) -> bool:
        """Take or keep the right to work at a batch; return whether `owner` has it."""
        free = or_(BatchRow.lease_owner == owner, BatchRow.lease_expires.is_(None), BatchRow.lease_expires < now_ms())
        mine = (BatchRow.id == batch_id, BatchRow.state.in_(UNFINISHED), free)
        with self._db.write(durable=False) as connection:
            values = {"lease_owner": owner, "lease_expires": now_ms() + _LEASE}
            return connection.execute(update(BatchRow).where(*mine).values(values)).rowcount == 1

    @retried
    def release(self, batch_id: str, owner: str) -> None:
        """Give the right back."""
        with self._db.write(durable=False) as connection:
            mine = (BatchRow.id == batch_id, BatchRow.lease_owner == owner)
            connection.execute(update(BatchRow).where(*mine).values(lease_owner=None, lease_expires=None))

    @retried
    def move(self, batch_id: str, owner: str, state: str, **values: Any) -> bool:
        """Bring a batch to its next state, at this moment; return whether `owner` had the right to.

        Args:
            batch_id: The batch.
            owner: Who works at it.
            state: The new state.
            **values: Further columns.
        """
        mine = (BatchRow.id == batch_id, BatchRow.lease_owner == owner, BatchRow.state.in_(UNFINISHED))
        with self._db.write() as connection:
            moved: dict[str, Any] = {"state": state, f"{state}_at": now_ms()} | values
            is_ours = connection.execute(update(BatchRow).where(*mine).values(moved)).rowcount == 1
        if is_ours and state in FINAL:
            count_at_once(self._db, f"openai_batches_{state}")
        return is_ours

    @retried
    def keep_lines(self, batch_id: str, owner: str, lines: Sequence[Line], groups: Sequence[Group]) -> bool:
        """Keep what the lines of a batch become in place of what was kept before; return whether `owner` had the right.

        Args:
            batch_id: The batch, which is being validated.
            owner: Who works at it.
            lines: Every line and what it becomes.
            groups: What becomes one job.
        """
        rows: list[dict[str, Any]] = []
        for start in range(0, len(lines), _LINES):
            data = json.dumps(lines[start : start + _LINES], separators=(",", ":")).encode()
            packed = zstandard.ZstdCompressor(level=3).compress(data)
            rows.append({"batch_id": batch_id, "number": start // _LINES, "data": packed})
        names = ("number", "job_id", "model", "lines", "items")
        of_groups = [{"batch_id": batch_id} | {name: getattr(group, name) for name in names} for group in groups]
        mine = (BatchRow.id == batch_id, BatchRow.lease_owner == owner, BatchRow.state == "validating")
        with self._db.write() as connection:
            # Else one who comes late would take the jobs away that another has noted meanwhile.
            if not connection.execute(update(BatchRow).where(*mine).values(total=len(lines))).rowcount:
                return False
            for table in (BatchLinesRow, BatchGroupRow):
                connection.execute(delete(table).where(table.batch_id == batch_id))
            connection.execute(insert(BatchLinesRow), rows)
            connection.execute(insert(BatchGroupRow), of_groups)
        return True

    @retried
    def finish(self, batch_id: str, owner: str, state: str, **values: Any) -> bool:
        """Bring a batch to its end and let its files be seen, in one transaction; arguments as for `move`."""
        mine = (BatchRow.id == batch_id, BatchRow.lease_owner == owner, BatchRow.state == "finalizing")
        files = [values[name] for name in ("output_file_id", "error_file_id") if values[name] is not None]
        with self._db.write() as connection:
            moved: dict[str, Any] = {"state": state, f"{state}_at": now_ms()} | values
            if not connection.execute(update(BatchRow).where(*mine).values(moved)).rowcount:
                return False
            written = (FileRow.id.in_(files), FileRow.state == "written")
            connection.execute(update(FileRow).where(*written).values(state="ready"))
        count_at_once(self._db, f"openai_batches_{state}")
        return True

    @retried
    def set_job(self, batch_id: str, number: int, job_id: str) -> bool:
        """Note which job a group of a batch became; return whether the group is there: it goes after the end."""
        group = (BatchGroupRow.batch_id == batch_id, BatchGroupRow.number == number)
        with self._db.write() as connection:
            return connection.execute(update(BatchGroupRow).where(*group).values(job_id=job_id)).rowcount == 1

    def groups(self, batch_id: str) -> list[Group]:
        """Return the groups of a batch, in order; none are left soon after its end."""
        names = (
            BatchGroupRow.number,
            BatchGroupRow.job_id,
            BatchGroupRow.model,
            BatchGroupRow.lines,
            BatchGroupRow.items,
        )
        wanted = select(*names).where(BatchGroupRow.batch_id == batch_id).order_by(BatchGroupRow.number)
        with self._db.read() as connection:
            return [Group(*row) for row in connection.execute(wanted)]

    def lines(self, batch_id: str) -> Iterator[Line]:
        """Yield the lines of a batch, in order."""
        number = 0
        while True:
            wanted = select(BatchLinesRow.data).where(
                BatchLinesRow.batch_id == batch_id, BatchLinesRow.number == number
            )
            with self._db.read() as connection:
                data = connection.execute(wanted).scalar()
            if data is None:
                return
            for line in json.loads(zstandard.ZstdDecompressor().decompress(data)):
                yield Line(*line)
            number += 1

    @retried
    def forget_lines(self, batch_id: str) -> None:
        """Remove lines and groups of a batch that is at its end and whose jobs are gone."""
        with self._db.write() as connection:
            for table in (BatchLinesRow, BatchGroupRow):
                connection.execute(delete(table).where(table.batch_id == batch_id))


_COLUMNS = [getattr(BatchRow, name) for name in Batch.__dataclass_fields__ if name != "is_over"]
_OVER: ColumnElement[bool] = BatchRow.expires_at <= now_ms()
_BATCH = select(*_COLUMNS, _OVER.label("is_over"))


def _batch(row: Any) -> Batch:
    return Batch(**(dict(row._mapping) | {"is_over": bool(row.is_over)}))
