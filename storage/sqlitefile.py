"""What a SQLite file needs that PostgreSQL does not: its pragmas, its transactions, a folder fit for it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import random
from threading import Lock
from time import monotonic, sleep
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DisconnectionError

from storage.contract.errors import StorageUnavailable
from storage.faults import LOCKED, sqlite_name

#: How a new file is laid out; said of one that is there, the second would wait until nobody writes.
_LAYOUT = (
    # Vectors in 4 KiB pages would be long chains.
    "page_size = 16384",
    # Room that is free can be given back, step by step.
    "auto_vacuum = INCREMENTAL",
)

_PRAGMAS = (
    "journal_mode = WAL",
    # What is deleted is overwritten, so that nobody finds a text in the file that should be gone.
    "secure_delete = ON",
    "foreign_keys = ON",
    "wal_autocheckpoint = 2000",
    "journal_size_limit = 67108864",
    # Small enough to stay in the processor's own cache; the system keeps the file's pages anyway.
    "cache_size = -8192",
)

#: Pages given back in one transaction; what is free beyond a share of the file, and at least so many, is given back.
_STEP, _FREE_SHARE, _FREE_LEAST = 512, 0.25, 4096

#: Waits for a file's content, without what nobody reads of it, such as the time of its change; not every system can.
_sync_content = getattr(os, "fdatasync", os.fsync)

#: Pauses of a process that waits until another one has written, in seconds: a commit takes some milliseconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.004


class DatabaseMissing(StorageUnavailable):
    """Raised when there is no SQLite file of that name: whoever does not migrate it makes none.

    Args:
        path: Where it was sought.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"There is no database {path.absolute()}.",
            "Look at its name (EMBEDMILL_DATABASE_URL, EMBEDMILL_DATA_DIR); embedmill migrate makes a new one, and"
            " embedmill up the embedded one.",
        )


class SqliteFile:
    """Keeps the connections of an engine to one SQLite file as they should be.

    Args:
        path: The file, or a `file:` URI, which says by itself whether one is made.
        busy_timeout: How long a writer waits for another, in milliseconds.
    """

    def __init__(self, path: Path, busy_timeout: int) -> None:
        self._path = path
        self._is_uri = str(path).startswith("file:")
        self._busy_timeout = busy_timeout
        self._log = ""
        self._turn = Lock()

    def make(self) -> None:
        """Make the file, empty, where there is none, for this user alone: the files beside it take its mode.

        Raises:
            StorageUnavailable: When it cannot be made.
        """
        if self._is_uri or self._path.exists():
            return
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise StorageUnavailable(
                f"The database's file {self._path} cannot be opened or made: {error.strerror}.",
                "Check the rights on it and on its folder.",
            ) from error

    def keep(self, engine: Engine) -> None:
        """Look after every connection of an engine from now on."""
        event.listen(engine, "do_connect", self._before_connect)
        event.listen(engine, "connect", self._on_connect)
        event.listen(engine, "begin", self._on_begin)
        event.listen(engine, "checkout", self._on_checkout)

    def _before_connect(self, *_: object) -> None:
        """Refuse a file that is not there: SQLite would make an empty one wherever a mistyped name leads."""
        if not self._is_uri and not self._path.exists():
            raise DatabaseMissing(self._path)

    def _on_connect(self, connection: sqlite3.Connection, record: object) -> None:
        # The driver's own transaction control would begin late and without IMMEDIATE.
        connection.isolation_level = None
        self._set(connection, f"busy_timeout = {self._busy_timeout}")
        is_new = not self._path.exists() or not self._path.stat().st_size
        for pragma in (*_LAYOUT, *_PRAGMAS) if is_new else _PRAGMAS:
            self._set(connection, pragma)
        # SQLite's own word for where the file is: the path may be a URI.
        self._log = f"{connection.execute('PRAGMA database_list').fetchone()[2]}-wal"

    def _set(self, connection: sqlite3.Connection, pragma: str) -> None:
        deadline = monotonic() + self._busy_timeout / 1000
        while True:
            try:
                connection.execute(f"PRAGMA {pragma}")
                return
            except sqlite3.OperationalError as error:
                # Of two that turn a new file to WAL at once, SQLite refuses one at once, whatever the busy timeout.
                if not sqlite_name(error).startswith("SQLITE_BUSY") or monotonic() > deadline:
                    raise
                sleep(0.005 + random() * 0.02)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold this process's turn to write: its threads wait for each other here, where they are woken at once.

        Raises:
            StorageUnavailable: When one of them has written for longer than anybody waits.
        """
        if not self._turn.acquire(timeout=self._busy_timeout / 1000):
            raise StorageUnavailable("The database does not answer: database is locked.", LOCKED)
        try:
            yield
        finally:
            self._turn.release()

    def settle(self) -> None:
        """Wait until all that was committed is on the disk: in the log, or by a checkpoint, which waits itself.

        Raises:
            StorageUnavailable: When the disk says that it is not.
        """
        try:
            log = os.open(self._log, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            _sync_content(log)
        except OSError as error:
            raise StorageUnavailable(
                f"Whether the last commit is on the disk is not known: {error.strerror}.",
                "Look at the disk under the data folder, and whether the job is there: embedmill jobs.",
            ) from error
        finally:
            os.close(log)

    def _on_begin(self, connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("embedmill_write"):
            connection.exec_driver_sql("BEGIN")
            return
        # NORMAL: in the log, after all that came before it, but not waited for until it is on the disk.
        level = "FULL" if options.get("embedmill_durable", True) else "NORMAL"
        driver: Any = connection.connection.driver_connection
        connection.exec_driver_sql(f"PRAGMA synchronous = {level}")
        # SQLite itself would sleep ever longer, while others come and go.
        driver.execute("PRAGMA busy_timeout = 0")
        try:
            if not self._has_begun(driver):
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # once more, for an error that says why not
        finally:
            driver.execute(f"PRAGMA busy_timeout = {self._busy_timeout}")

    def _has_begun(self, driver: sqlite3.Connection) -> bool:
        """Try to begin a write, again and again."""
        deadline, pause = monotonic() + self._busy_timeout / 1000, _FIRST_PAUSE
        while monotonic() < deadline:
            try:
                driver.execute("BEGIN IMMEDIATE")
                return True
            except sqlite3.OperationalError as error:
                if not sqlite_name(error).startswith("SQLITE_BUSY"):
                    return False
            sleep(pause * (0.5 + random()))
            pause = min(2 * pause, _LONGEST_PAUSE)
        return False

    def _on_checkout(self, connection: sqlite3.Connection, record: Any, proxy: object) -> None:
        """Leave a file that was deleted or replaced: what is written there nobody will ever see."""
        try:
            found = self._path.stat()
            identity = (found.st_dev, found.st_ino)
        except OSError:
            identity = None
        if record.info.setdefault("file", identity) != identity:
            raise DisconnectionError("the file is another one")


def give_back(connection: Connection) -> bool:
    """Give some of a file's free room back to the disk, inside a write transaction; return whether there is more.

    A quarter of the file stays free: it is used again soon, and moving pages costs as much as writing them.
    """
    free, pages = (int(connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0) for name in _ROOM)
    surplus = free - max(int(_FREE_SHARE * pages), _FREE_LEAST)
    if surplus <= 0:
        return False
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA incremental_vacuum({min(_STEP, surplus)})").fetchall()  # a page for each step of it
    # A file from before there was this, which has no way to give room back, would else be asked for ever.
    return surplus > _STEP and int(connection.exec_driver_sql("PRAGMA freelist_count").scalar() or 0) < free


_ROOM = ("freelist_count", "page_count")


def prepare_folder(folder: Path) -> None:
    """Make the folder of the embedded database.

    Raises:
        StorageUnavailable: When it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageUnavailable(
            f"The data folder {folder} cannot be made: {error.strerror}.",
            "Choose another with --data-dir or EMBEDMILL_DATA_DIR.",
        ) from error
