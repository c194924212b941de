"""Reads jobs, and all that belongs to them, sheet by sheet, beside whoever works on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, tuple_

from storage.contract.errors import Conflict, UnknownJob
from storage.contract.states import FINAL_JOB_STATES, ChunkState, JobState
from storage.database import Database
from storage.filetables import GOING, UNFINISHED, FileBlockRow, FileRow
from storage.sheets import Sheet
from storage.tables import CHUNKS, INPUTS, JOBS, RESULTS, Row

#: Most chunks, and rows of another table, of one sheet; and items of its chunks: some MB.
_ROWS, _ITEMS = 256, 2_048

#: Tables that come along with all jobs, before them, parents first. The others say who works now, or what has been
#: counted; webhooks come behind the jobs.
_BESIDE = (
    "keys",
    "quotas",
    "secrets",
    "webhook_secrets",
    "tokenizers",
    "files",
    "file_blocks",
    "uploads",
    "batches",
    "batch_groups",
    "batch_lines",
)

#: Rows of files that somebody is writing or removing at this moment, which nobody goes on with elsewhere, stay behind.
_is_written = FileRow.state.not_in(["writing", GOING])
_COMES: dict[str, ColumnElement[bool]] = {
    "files": _is_written,
    "file_blocks": select(FileRow.id).where(FileRow.id == FileBlockRow.file_id, _is_written).exists(),
}

#: A chunk that is out is pending where nobody has heard of it; a batch is taken up by whoever comes.
_OUT = {ChunkState.DISPATCHED, ChunkState.LEASED}
_NOBODYS = {"lease_owner": None, "lease_expires": None}

#: How often a job is read that changes meanwhile.
_TRIES = 5


class Exporter:
    """Reads from one database.

    Args:
        database: Where the jobs are.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        #: Jobs that were not read because they are still being submitted.
        self.unsealed = 0
        #: Jobs that were read whole, and items in them.
        self.read, self.items = 0, 0
        #: Models that were read.
        self._models: set[str | None] = {None}

    def jobs(self, job_ids: Sequence[str]) -> Iterator[Sheet]:
        """Yield the sheets of some jobs, with their models.

        Raises:
            UnknownJob: When there is none of one of the ids; nothing was yielded then.
        """
        for job_id in job_ids:
            row = self._job(job_id)
            if row is None or row["state"] == JobState.ACCEPTING:
                raise UnknownJob(job_id)
        for job_id in job_ids:
            yield from self._of_job(job_id)

    def everything(self) -> Iterator[Sheet]:
        """Yield the sheets of all jobs, keys, files, batches and webhooks."""
        yield from self._all_models()
        # Read before the jobs: a batch that plans its jobs meanwhile finds them again by the ids in its own rows.
        unfinished: list[dict[str, Any]] = []
        for name in _BESIDE:
            for sheet in self._of_table(name):
                rows = sheet.rows
                if name == "batches":
                    unfinished += [row for row in rows if row["state"] in UNFINISHED]
                    rows = [row for row in rows if row["state"] not in UNFINISHED]
                if rows:
                    yield Sheet(name, rows)
        after = "00000000-0000-0000-0000-000000000000"
        while ids := self._following(after):
            for job_id in ids:
                yield from self._of_job(job_id)
            after = ids[-1]
        # Where they go somebody may work already, who would miss their jobs: end the batch, forget whom to tell.
        for first in range(0, len(unfinished), _ROWS):
            yield Sheet("batches", unfinished[first : first + _ROWS])
        yield from self._of_table("webhooks")

    def _following(self, after: str) -> list[str]:
        wanted = select(JOBS.c.id).where(JOBS.c.id > after, JOBS.c.deleted_at.is_(None), JOBS.c.kind != "call")
        with self._db.read() as connection:
            return list(connection.execute(wanted.order_by(JOBS.c.id).limit(_ROWS)).scalars())

    def _job(self, job_id: str) -> dict[str, Any] | None:
        with self._db.read() as connection:
            found = _rows(connection, select(JOBS).where(JOBS.c.id == job_id, JOBS.c.deleted_at.is_(None)))
        return found[0] | {"unsettled_after": None} if found else None

    def _of_job(self, job_id: str) -> Iterator[Sheet]:
        """Yield a job's sheets; where it ended or was cut anew while it was read, take that back and read it again."""
        for _ in range(_TRIES):
            before = self._job(job_id)
            if before is None:
                return
            if before["state"] == JobState.ACCEPTING:
                self.unsealed += 1
                return
            if before["model_id"] not in self._models:
                yield from self._all_models()
            yield Sheet("jobs", [before], "begin")
            items = 0
            for chunks, inputs, results in self._chunks(job_id):
                items += sum(row["size"] for row in chunks if row["state"] != ChunkState.SPLIT)
                # The halves of a chunk that was split have both, the whole one has neither.
                for name, rows in (("inputs", inputs), ("results", results)):
                    if rows:
                        yield Sheet(name, rows)
                yield Sheet("chunks", [_at_rest(row, before["state"]) for row in chunks])
            after = self._job(job_id)
            if after is not None and items == after["total"] and _is_same(before, after):
                yield Sheet("jobs", [before], "end")
                self.read, self.items = self.read + 1, self.items + items
                return
            yield Sheet("jobs", [before], "gone")
        raise Conflict(f"Job {job_id} changes faster than it is read.", "Stop its workers, and try again.")

    def _chunks(self, job_id: str) -> Iterator[tuple[list[dict[str, Any]], ...]]:
        """Yield a job's chunks with their texts and results, each as they were at one moment."""
        after, many = -1, 16
        while True:
            with self._db.read(one_moment=True) as connection:
                following = select(CHUNKS).where(CHUNKS.c.job_id == job_id, CHUNKS.c.number > after)
                chunks = _rows(connection, following.order_by(CHUNKS.c.number).limit(many))
                numbers = [row["number"] for row in chunks]
                texts, results = (
                    _rows(connection, select(table).where(table.c.job_id == job_id, table.c.number.in_(numbers)))
                    for table in (INPUTS, RESULTS)
                )
            if not chunks:
                return
            yield chunks, texts, results
            after = numbers[-1]
            largest = max(row["size"] for row in chunks)
            many = max(1, min(_ROWS, _ITEMS // largest))

    def _all_models(self) -> Iterator[Sheet]:
        for sheet in self._of_table("models"):
            self._models.update(row["id"] for row in sheet.rows)
            yield sheet

    def _of_table(self, name: str) -> Iterator[Sheet]:
        table = Row.metadata.tables[name]
        key = tuple_(*table.primary_key.columns)
        where = [_COMES[name]] if name in _COMES else []
        # Blocks of files have a megabyte each.
        many = 4 if {"data", "definition"}.intersection(table.c.keys()) else _ROWS
        last: tuple[Any, ...] | None = None
        while True:
            following = select(table).where(*where, *((key > last,) if last else ()))
            with self._db.read() as connection:
                rows = _rows(connection, following.order_by(*table.primary_key.columns).limit(many))
            if not rows:
                return
            last = tuple(rows[-1][column.name] for column in table.primary_key.columns)
            yield Sheet(name, [row | (_NOBODYS if "lease_owner" in row else {}) for row in rows])


def _rows(connection: Connection, query: Any) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(query)]


def _at_rest(chunk: dict[str, Any], job_state: str) -> dict[str, Any]:
    """Return a chunk that nobody has; of a job that has ended none is open, whoever is still to settle it."""
    state = ChunkState.PENDING if chunk["state"] in _OUT else chunk["state"]
    if state == ChunkState.PENDING and job_state in FINAL_JOB_STATES:
        state = ChunkState.CANCELLED
    return chunk | _NOBODYS | {"state": state, "dispatched_at": None}


def _is_same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether a job has not ended, begun again or found its model between two looks, so that its chunks fit its row."""
    both_open = not {before["state"], after["state"]} & set(FINAL_JOB_STATES)
    same = all(before[name] == after[name] for name in ("generation", "model_id"))
    return same and (both_open or before["state"] == after["state"])
