"""A backup of the SQLite file beside whoever works in it; and what a restored database needs before it is used."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sqlalchemy import case, or_, select, update

from storage.contract.errors import InvalidFile, InvalidOption, OutputExists
from storage.contract.states import OPEN_CHUNK_STATES, ChunkState, JobState
from storage.database import Database
from storage.faults import translated
from storage.tables import ChunkRow, JobRow

#: Jobs, and chunks of them, that are changed in one transaction.
_JOBS, _CHUNKS = 256, 8_192

#: Characters of the target's name that the temporary file's name repeats; four bytes each stay below 255.
_NAME_CHARACTERS = 50


def back_up(database: Database, target: Path, force: bool = False) -> int:
    """Copy the SQLite file as it is at this moment; return its bytes. Who writes to it goes on meanwhile.

    The copy is one file, without a log beside it; it is checked, and put in its place when it is whole.

    Args:
        database: Whose file is copied.
        target: Where the copy goes.
        force: Whether a file that is there is replaced.

    Raises:
        InvalidOption: When the database is no SQLite file, or is what would be replaced.
        OutputExists: When `target` exists and `force` is not given.
        InvalidFile: When it is a folder, cannot be written, or is not sound.
        StorageUnavailable: When the database cannot be read, or the copy not be written to its end.
        StorageFull: When there is no room for the copy.
    """
    if not database.is_sqlite:
        raise InvalidOption(
            "PostgreSQL is backed up by its own tools.", "Run: pg_dump --format=custom --file=FILE DATABASE_URL"
        )
    if target.is_dir():
        raise InvalidFile(f"{target} is a folder, not a file.", "Name a file in it.")
    if target.exists() and target.samefile(database.url.database or ""):
        raise InvalidOption(f"{target} is the database itself.", "Choose another place.")
    if target.exists() and not force:
        raise OutputExists(f"{target} exists.", "Add --force to replace it.")
    # Not by the process's number alone: in a container each has the same one, and what was killed has left its file.
    beside = target.with_name(f".{target.name[:_NAME_CHARACTERS]}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise InvalidFile(f"{target} cannot be written: {error.strerror}.", "Choose another place.") from error
    try:
        with (
            translated(),
            closing(sqlite3.connect(database.url.database or "")) as source,
            closing(sqlite3.connect(beside, isolation_level=None)) as copy,
        ):
            # In one go: one that pauses begins anew whenever somebody has written meanwhile.
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            found = copy.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            raise InvalidFile(f"The copy is not sound: {found}", "Look at the disk that the database lies on.")
        descriptor = os.open(beside, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        size = beside.stat().st_size
        beside.replace(target)
        return size
    finally:
        beside.unlink(missing_ok=True)


def fence(database: Database) -> int:
    """Make a database that has gone back in time safe from those who worked before it did; return how many chunks.

    What they hold are leases of a time that no longer is, by tokens that would be given out again. Every chunk that may
    still be claimed gets a token beyond all of them, and what was sent or leased is pending.
    """
    # Beyond what any claim has counted to, and at every restoring another one.
    jump = int(time.time())
    claimable = or_(ChunkRow.state.in_(sorted(OPEN_CHUNK_STATES)), ChunkRow.failed > ChunkRow.invalid)
    values = {"token": ChunkRow.token + jump, "lease_owner": None, "lease_expires": None, "dispatched_at": None}
    fenced = 0
    for job_ids in _groups(database):
        with database.write() as connection:
            of_jobs = update(ChunkRow).where(ChunkRow.job_id.in_(job_ids))
            fenced += connection.execute(of_jobs.where(claimable).values(values)).rowcount
            out = ChunkRow.state.in_([ChunkState.DISPATCHED, ChunkState.LEASED])
            connection.execute(of_jobs.where(out).values(state=ChunkState.PENDING))
    return fenced


def _groups(database: Database) -> Iterator[list[str]]:
    """Yield the ids of all jobs, so many at a time as have chunks for one transaction."""
    after = "00000000-0000-0000-0000-000000000000"
    while True:
        # Those of a job that is still being submitted are not counted yet.
        count = case((JobRow.state == JobState.ACCEPTING, _CHUNKS), else_=JobRow.chunk_count)
        following = select(JobRow.id, count).where(JobRow.id > after).order_by(JobRow.id).limit(_JOBS)
        with database.read() as connection:
            rows = connection.execute(following).all()
        if not rows:
            return
        # A job alone may have more than there is room for.
        chunks, group = 0, list[str]()
        for job_id, count in rows:
            if group and chunks + count > _CHUNKS:
                yield group
                chunks, group = 0, []
            chunks, group = chunks + count, [*group, job_id]
        yield group
        after = rows[-1].id


def compact(database: Database) -> tuple[int, int]:
    """Write the SQLite file anew without free room, able to give room back from now on.

    Returns:
        Its bytes before and after.

    Raises:
        InvalidOption: When the database is no SQLite file.
        StorageUnavailable: When somebody writes to it for too long.
        StorageFull: When there is no room for a second copy meanwhile.
    """
    if not database.is_sqlite:
        raise InvalidOption(
            "PostgreSQL gives no room back without a lock on the whole table.",
            "Autovacuum makes it free for new rows; where that is not enough: VACUUM FULL, or pg_repack.",
        )
    path = Path(database.url.database or "")
    before = path.stat().st_size
    with translated(), database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        # A file from before there was this learns it by being written anew.
        for statement in ("PRAGMA auto_vacuum = INCREMENTAL", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            driver.execute(statement).fetchall()
    return before, path.stat().st_size
