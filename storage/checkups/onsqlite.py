"""What must hold of a SQLite file and of the disk it lies on."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from storage.checkups.check import Outcome, not_checked, ok, warning, wrong
from storage.checkups.places import room, size
from storage.contract.errors import StorageUnavailable
from storage.database import Database
from storage.faults import sqlite_name
from storage.filesystems import refuse_network_file_system

#: Oldest version with UPDATE ... RETURNING.
_OLDEST = (3, 35, 0)

#: A log that a reader keeps from being written back grows beyond this, in bytes.
_LONG_LOG = 512 << 20

#: How long somebody may write before another has his turn, in seconds; a write takes a small part of one.
_TURN = 3.0

#: The byte of the shared file that whoever writes has locked (SQLite's WAL_WRITE_LOCK).
_WRITERS_BYTE = "120"

#: How long the file is looked through, in seconds.
_PATIENCE = 5.0

#: Instructions of SQLite's between two looks at the time.
_LOOK_EVERY = 10_000


def _file(database: Database) -> Path:
    return Path(database.url.database or "")


def _version(database: Database) -> Outcome:
    if sqlite3.sqlite_version_info < _OLDEST:
        return wrong(f"SQLite {sqlite3.sqlite_version}.", "Use a Python that brings SQLite 3.35 or newer.")
    return ok(f"SQLite {sqlite3.sqlite_version}.")


def _rights(database: Database) -> Outcome:
    file = _file(database)
    for place in (file, file.parent):
        if not os.access(place, os.W_OK):
            return wrong(f"This user may not write {place}.", "Give the right, or run as the user that owns it.")
    if _is_open_to_all(file):
        remedy = f"Run chmod o= {file}*, unless all of them may read every text and key's hash."
        return warning(f"Every user of this machine may read {file}.", remedy)
    return ok("File and folder may be written by this user, and the file is not read by all.")


def _is_open_to_all(file: Path) -> bool:
    """Whether all may read a file, and pass through each folder above it."""
    folders = file.resolve().parents
    return bool(file.stat().st_mode & 0o004) and all(folder.stat().st_mode & 0o001 for folder in folders)


def _file_system(database: Database) -> Outcome:
    try:
        refuse_network_file_system(_file(database))
    except StorageUnavailable as error:
        return wrong(error.message, error.remedy or "Choose a local folder.")
    return ok("It lies on a file system of this machine.")


def _log(database: Database) -> Outcome:
    file = _file(database)
    with file.open("rb") as header:
        # Two bytes of the file's head say how it is written and read; opening it as the program does would change it.
        mode = header.read(20)[18:20]
    if mode != b"\x02\x02":
        return warning("It is not in WAL mode: readers and writers wait for each other.", "Run embedmill migrate.")
    log = file.with_name(f"{file.name}-wal")
    length = log.stat().st_size if log.exists() else 0
    if length > _LONG_LOG:
        remedy = "Find the process that reads for so long (lsof names who has it open), and end it."
        return warning(f"Its log has grown to {size(length)}: somebody reads it without end.", remedy)
    return ok(f"It is in WAL mode; its log has {size(length)}.")


def _writing(database: Database) -> Outcome:
    file = _file(database)
    place = f"file:{quote(str(file))}?mode=rw"
    with closing(sqlite3.connect(place, uri=True, timeout=_TURN, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if not sqlite_name(error).startswith("SQLITE_BUSY"):
                raise
            return wrong(
                f"It has been locked for {_TURN:.0f} s by {_holder(file)}: nobody else can write, and all work stands.",
                "Look what it does, and end it unless it is a move or a migration; nothing that was accepted is lost.",
            )
    return ok("It can be written to.")


def _holder(file: Path) -> str:
    """Return who holds the lock of writers, as Linux tells it: a lock on one byte of the file that lies beside."""
    try:
        shared = file.with_name(f"{file.name}-shm").stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            _, _, _, kind, pid, place, first, last = line.split()[:8]
            if kind == "WRITE" and place.rpartition(":")[2] == str(shared) and first == last == _WRITERS_BYTE:
                return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    except (OSError, ValueError):
        pass
    return "another process"


def _size(database: Database) -> Outcome:
    return ok(f"It has {size(_file(database).stat().st_size)}.")


def _room(database: Database) -> Outcome:
    return room(_file(database).parent)


def _integrity(database: Database) -> Outcome:
    file, deadline = _file(database), time.monotonic() + _PATIENCE
    with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=1)) as connection:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _LOOK_EVERY)
        try:
            (told,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError as error:
            if "interrupted" not in str(error):
                raise
            by_hand = f"When there is time for it: sqlite3 {file} 'PRAGMA quick_check'"
            return not_checked(f"To look through it takes longer than {_PATIENCE:.0f} s.", by_hand)
        except sqlite3.DatabaseError as error:
            told = str(error)
    if told != "ok":
        return wrong(f"The file is damaged: {told}.", "Stop everything, keep a copy of it, and restore a backup.")
    return ok("It was looked through, and is sound.")


#: What is looked at, in order.
CHECKS: dict[str, Callable[[Database], Outcome]] = {
    "version": _version,
    "rights": _rights,
    "file system": _file_system,
    "log": _log,
    "writing": _writing,
    "size": _size,
    "room": _room,
    "integrity": _integrity,
}
