"""Writes sheets into a database: what is there already stays as it is, and a job is seen only when it is whole."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from storage.contract.errors import InvalidFile
from storage.contract.states import ChunkState, JobState
from storage.database import Database, now_ms
from storage.faults import retried
from storage.purges import PurgeStore
from storage.sheets import Sheet, known, table_of
from storage.tables import CHUNKS, INPUTS, JOBS, RESULTS

#: What a job is while its chunks come: hidden, and thrown away after a day if nobody goes on.
_COMING: dict[str, Any] = {"state": JobState.ACCEPTING, "kind": "import", "idempotency_key": None}
#: What is counted while texts come to be embedded, and marks how far a step by step change of the job has come.
_COMING |= {"arrived": None, "estimated": None, "unsettled_after": None, "unretried_from": None}

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

#: Pause between two write transactions, in seconds, in which other writers of a SQLite file get their turn.
_BREATH = 0.001


@dataclass(frozen=True, slots=True)
class Imported:
    """What has become of an import.

    Args:
        jobs: Jobs that are there now and were not before.
        there: Jobs that were there before, and are left as they are.
        items: Items of the new jobs.
        renewed: New jobs that were past their time, which begins anew.
    """

    jobs: int = 0
    there: int = 0
    items: int = 0
    renewed: int = 0


class Importer:
    """Writes into one database; done again, it changes nothing, and goes on where it was cut off.

    Args:
        database: Where the sheets go.
        renewing: Whether a job that is past its time is kept as long again: out of an archive, it would else be gone
            within a minute. What is due in a database that moves stays due.
    """

    def __init__(self, database: Database, renewing: bool = False) -> None:
        self._db = database
        self._renewing = renewing
        self._purges = PurgeStore(database)
        self._job: str | None = None

    def take(self, sheets: Iterable[Sheet]) -> Imported:
        """Write all sheets.

        Raises:
            InvalidFile: When they do not fit together; every job before that is whole, and can be worked on.
            StorageUnavailable: When the database cannot be reached.
        """
        done, coming = Imported(), False
        of_chunks: list[Sheet] = []
        for sheet in sheets:
            if sheet.role != "rows":
                of_chunks = []
            if sheet.role == "begin":
                coming = self._begin(sheet.rows[0])
                done = done if coming else replace(done, there=done.there + 1)
            elif sheet.role == "gone":
                if coming:
                    self._discard(sheet.rows[0]["id"])
                coming = False
            elif sheet.role == "end":
                if coming:
                    job, renewed = self._in_time(sheet.rows[0])
                    self._end(job)
                    done = replace(done, jobs=done.jobs + 1, items=done.items + int(job["total"]))
                    done = replace(done, renewed=done.renewed + renewed)
                coming = False
            elif sheet.table not in ("chunks", "inputs", "results"):
                self._add(sheet)
            elif coming:
                of_chunks.append(sheet)
                # They come last, and are written together with their texts and results.
                if sheet.table == "chunks":
                    self._fill(of_chunks)
                    of_chunks = []
        return done

    @retried
    def _add(self, sheet: Sheet) -> None:
        """Add rows that belong to no job; those that are there stay."""
        table = table_of(sheet.table)
        with self._db.write() as connection:
            insert = _INSERT[connection.dialect.name](table).on_conflict_do_nothing()
            connection.execute(insert, [known(table, row) for row in sheet.rows])

    @retried
    def _begin(self, job: dict[str, Any]) -> bool:
        """Make room for a job; return whether it is to come: whether it is not there already."""
        self._job = job["id"]
        found = select(JOBS.c.kind, JOBS.c.deleted_at).where(JOBS.c.id == job["id"])
        while True:
            with self._db.write() as connection:
                row = known(JOBS, job) | _COMING | {"touched_at": now_ms(), "deleted_at": None, "finished_at": None}
                insert = _INSERT[connection.dialect.name](JOBS).values(row | {"kept_until": None, "texts_until": None})
                connection.execute(insert.on_conflict_do_nothing())
                there = connection.execute(found).one()
            if there.deleted_at is None:
                return bool(there.kind == _COMING["kind"])
            # It is being deleted here, which may have been cut off, and comes anew.
            self._purges.purge(job["id"])

    @retried
    def _fill(self, sheets: Sequence[Sheet]) -> None:
        """Write some chunks of the job that is coming; those of an attempt before are replaced: they may be older."""
        if any(row["job_id"] != self._job for sheet in sheets for row in sheet.rows):
            raise InvalidFile("The archive's sheets are in disorder.", "Export it again.")
        with self._db.write() as connection:
            self._touch(connection)
            for sheet in sheets:
                self._replace(connection, sheet)
        if self._db.is_sqlite:
            time.sleep(_BREATH)

    def _replace(self, connection: Connection, sheet: Sheet) -> None:
        table = table_of(sheet.table)
        insert = _INSERT[connection.dialect.name](table)
        new = {column.name: insert.excluded[column.name] for column in table.columns}
        upsert = insert.on_conflict_do_update(index_elements=["job_id", "number"], set_=new)
        # All of one form, so that they are written by one statement.
        empty = dict.fromkeys(table.c.keys())
        connection.execute(upsert, [empty | known(table, row) for row in sheet.rows])
        split = [row["number"] for row in sheet.rows if row.get("state") == ChunkState.SPLIT]
        for of_chunk in (INPUTS, RESULTS) if split else ():
            gone = (of_chunk.c.job_id == self._job, of_chunk.c.number.in_(split))
            connection.execute(delete(of_chunk).where(*gone))

    def _touch(self, connection: Connection) -> None:
        """Hold the job that is coming, as the rows of its chunks are written.

        Raises:
            InvalidFile: When it is not there, or whole already.
        """
        coming = (JOBS.c.id == self._job, JOBS.c.kind == _COMING["kind"], JOBS.c.deleted_at.is_(None))
        if not connection.execute(update(JOBS).where(*coming).values(touched_at=now_ms())).rowcount:
            raise InvalidFile(f"Job {self._job} was taken away while it came.", "Import the archive again.")

    def _in_time(self, job: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return a job's row with a time for which it is kept that is not over, and whether it was over."""
        until, now = job.get("kept_until"), self._db.clock.now() * 1000
        if not self._renewing or until is None or until > now:
            return job, False
        return job | {"kept_until": int(now) + int(job["keep_for"] or 0)}, True

    def _end(self, job: dict[str, Any]) -> None:
        """Accept the job: from here on it is seen, and worked on if it has not ended."""
        try:
            self._seal(known(JOBS, job))
        except IntegrityError:
            # Another one was submitted here with the same key; this one stays without.
            self._seal(known(JOBS, job) | {"idempotency_key": None})

    @retried
    def _seal(self, job: dict[str, Any]) -> None:
        held = select(func.sum(CHUNKS.c.size)).where(CHUNKS.c.job_id == self._job, CHUNKS.c.state != ChunkState.SPLIT)
        with self._db.write() as connection:
            if (found := connection.execute(select(JOBS.c.kind).where(JOBS.c.id == self._job)).scalar()) == job["kind"]:
                return  # the answer to the first attempt was lost
            if found is not None:
                self._touch(connection)
            if found is None or int(connection.execute(held).scalar() or 0) != job["total"]:
                raise InvalidFile(f"Job {self._job} is not whole in the archive.", "Export it again.")
            connection.execute(update(JOBS).where(JOBS.c.id == self._job).values(job))

    def _discard(self, job_id: str) -> None:
        with self._db.write() as connection:
            coming = (JOBS.c.id == job_id, JOBS.c.kind == _COMING["kind"])
            connection.execute(update(JOBS).where(*coming).values(deleted_at=now_ms()))
        self._purges.purge(job_id)
