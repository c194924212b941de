"""Engines and transactions: one SQLite file or one PostgreSQL, with the same promises.

Every write on SQLite begins with BEGIN IMMEDIATE: a transaction that reads first and then wants to write fails at once
under WAL, whatever the busy timeout. Time is always the database's own clock, in milliseconds since 1970.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from random import random
from time import monotonic, sleep
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import BigInteger, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from storage.contract.errors import (
    InvalidOption,
    MissingExtra,
    SchemaMismatch,
    ServerError,
    StorageFull,
    StorageUnavailable,
)
from storage.contract.settings import Settings

#: The newest migration this program knows; a test keeps it equal to Alembic's head.
SCHEMA_VERSION = "0001"

#: How long a SQLite writer waits for another before it gives up, in milliseconds.
_BUSY_TIMEOUT = 30_000

#: Network file systems by the kernel's magic number: SQLite's WAL needs shared memory and locks that they lack.
_NETWORK_FILE_SYSTEMS = {0x6969: "NFS", 0xFF534D42: "CIFS", 0xFE534D42: "SMB2", 0x517B: "SMB", 0x01021997: "9P"}

_PG_FULL = {"53100"}

#: serialization_failure, deadlock_detected, lock_not_available: the same transaction may succeed a moment later.
_PG_CONFLICT = {"40001", "40P01", "55P03"}

_SQLITE_DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT")

_CONFLICT_TRIES = 4


class now_ms(GenericFunction[int]):
    """Milliseconds since 1970 on the database's clock, at this very moment."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _now_sqlite(element: now_ms, compiler: Any, **kw: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(now_ms, "postgresql")
def _now_postgresql(element: now_ms, compiler: Any, **kw: Any) -> str:
    return "CAST(extract(epoch from clock_timestamp()) * 1000 AS BIGINT)"


class Database:
    """One database; gives out read and write transactions.

    Args:
        url: SQLAlchemy URL; plain `postgresql://` means psycopg 3.
        busy_timeout: How long a SQLite writer waits for another, in milliseconds.

    Raises:
        InvalidOption: When the URL is no URL of a database we know.
        MissingExtra: When the driver is not installed.
    """

    def __init__(self, url: str, busy_timeout: int = _BUSY_TIMEOUT) -> None:
        self.url = _checked_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._busy_timeout = busy_timeout
        try:
            self.engine = self._make_engine()
        except ModuleNotFoundError as error:
            raise MissingExtra("The PostgreSQL driver", "postgres") from error

    def _make_engine(self) -> Engine:
        if self.is_sqlite:
            engine = create_engine(self.url, hide_parameters=True, connect_args={"timeout": self._busy_timeout / 1000})
            event.listen(engine, "connect", self._on_sqlite_connect)
            event.listen(engine, "begin", _begin_sqlite)
            event.listen(engine, "checkout", self._on_sqlite_checkout)
            return engine
        engine = create_engine(
            self.url,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_recycle=1800,
            pool_size=8,
            max_overflow=8,
            pool_timeout=30,
            connect_args={
                "connect_timeout": 5,
                "application_name": "embedmill",
                "tcp_user_timeout": 30_000,
                # A database made as SQL_ASCII would otherwise hand out bytes for text.
                "client_encoding": "utf8",
            },
        )
        event.listen(engine, "begin", _begin_postgresql)
        return engine

    def _on_sqlite_connect(self, connection: sqlite3.Connection, record: object) -> None:
        # The driver's own transaction control would begin late and without IMMEDIATE.
        connection.isolation_level = None
        for pragma in (
            # Takes effect only while the file is empty; vectors in 4 KiB pages would be long chains.
            "page_size = 16384",
            f"busy_timeout = {self._busy_timeout}",
            "journal_mode = WAL",
            # FULL: an accepted job survives the loss of power, not only of the process.
            "synchronous = FULL",
            "foreign_keys = ON",
            "wal_autocheckpoint = 2000",
            "journal_size_limit = 67108864",
            "cache_size = -65536",
        ):
            self._set(connection, pragma)

    def _set(self, connection: sqlite3.Connection, pragma: str) -> None:
        deadline = monotonic() + self._busy_timeout / 1000
        while True:
            try:
                connection.execute(f"PRAGMA {pragma}")
                return
            except sqlite3.OperationalError as error:
                # Of two that turn a new file to WAL at once, SQLite refuses one at once, whatever the busy timeout.
                if not _sqlite_name(error).startswith("SQLITE_BUSY") or monotonic() > deadline:
                    raise
                sleep(0.005 + random() * 0.02)

    def _on_sqlite_checkout(self, connection: sqlite3.Connection, record: Any, proxy: object) -> None:
        """Leave a file that was deleted or replaced: what is written there nobody will ever see."""
        try:
            found = Path(self.url.database or "").stat()
            identity = (found.st_dev, found.st_ino)
        except OSError:
            identity = None
        if record.info.setdefault("file", identity) != identity:
            raise DisconnectionError("the file is another one")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read transaction; keep it short, a long one makes SQLite's log grow.

        Raises:
            StorageUnavailable: When the database cannot be reached.
        """
        with translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a write transaction that commits at the end of the block and rolls back on any error.

        Raises:
            StorageUnavailable: When the database cannot be reached or stays locked.
            StorageFull: When its disk is full.
        """
        with translated(), self.engine.connect() as connection:
            connection = connection.execution_options(embedmill_write=True)
            with connection.begin():
                yield connection

    def check_schema(self) -> None:
        """Check that the schema is the one this program knows.

        Raises:
            SchemaMismatch: When it is older (migrate it) or newer (upgrade this program) or missing.
            StorageUnavailable: When the database cannot be reached.
        """
        found = self.schema_version()
        if found == SCHEMA_VERSION:
            return
        if found is None:
            raise SchemaMismatch("The database has no Embedmill schema yet.", "Run `embedmill migrate`.")
        if found < SCHEMA_VERSION:
            raise SchemaMismatch(
                f"The database's schema is {found}, this program needs {SCHEMA_VERSION}.", "Run `embedmill migrate`."
            )
        raise SchemaMismatch(
            f"The database's schema is {found}, newer than this program knows ({SCHEMA_VERSION}).",
            "Upgrade embedmill on this machine.",
        )

    def schema_version(self) -> str | None:
        """Return the schema's version as Alembic keeps it, or None when there is none."""
        with self.read() as connection:
            if not self.engine.dialect.has_table(connection, "alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def open_database(settings: Settings) -> Database:
    """Open the database of the settings, its schema checked; the embedded one is made and migrated by itself.

    Raises:
        StorageUnavailable: When it cannot be reached, or its folder cannot be made or written.
        SchemaMismatch: When a database of one's own has another schema than this program knows.
    """
    if settings.database_is_embedded:
        _prepare_folder(settings.data_dir)
    database = Database(settings.database)
    try:
        if database.is_sqlite and database.url.database:
            _refuse_network_file_system(Path(database.url.database))
        if settings.database_is_embedded and (database.schema_version() or "") < SCHEMA_VERSION:
            from storage.migrations import migrate  # Alembic costs a quarter of a second, and only here

            migrate(database)
        database.check_schema()
    except BaseException:
        database.close()
        raise
    return database


def _prepare_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageUnavailable(
            f"The data folder {folder} cannot be made: {error.strerror}.",
            "Choose another with --data-dir or EMBEDMILL_DATA_DIR.",
        ) from error


def _refuse_network_file_system(path: Path) -> None:
    kind = _NETWORK_FILE_SYSTEMS.get(_file_system_magic(path.parent))
    if kind:
        raise StorageUnavailable(
            f"{path.parent} lies on {kind}, where SQLite cannot keep its promises.",
            "Choose a local folder with EMBEDMILL_DATA_DIR, or PostgreSQL with EMBEDMILL_DATABASE_URL.",
        )


def _file_system_magic(folder: Path) -> int:
    """Return the kernel's number of the folder's file system, 0 where that cannot be told."""
    import ctypes

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        buffer = (ctypes.c_ulong * 64)()
        return int(buffer[0]) if libc.statfs(str(folder).encode(), ctypes.byref(buffer)) == 0 else 0
    except (OSError, AttributeError):
        return 0


def _checked_url(url: str) -> URL:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise InvalidOption(
            "The database URL is not one that SQLAlchemy knows.",
            "Write it like sqlite:////folder/file.sqlite3 or postgresql://user:password@host/name.",
        ) from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise InvalidOption(f"{parsed.get_backend_name()} is not supported.", "Use SQLite or PostgreSQL.")
    return parsed


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("embedmill_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    # SET LOCAL works behind PgBouncer in transaction mode, a connection parameter does not.
    connection.exec_driver_sql(
        "SET LOCAL statement_timeout = '60s'; SET LOCAL lock_timeout = '10s';"
        " SET LOCAL idle_in_transaction_session_timeout = '60s'"
    )


P = ParamSpec("P")
T = TypeVar("T")


class StorageConflict(StorageUnavailable):
    """Raised when two transactions got in each other's way and this one was undone."""

    code = "storage_conflict"


def retried(method: Callable[P, T]) -> Callable[P, T]:
    """Run a method that is one transaction again, a few times with jitter, when another transaction got in its way."""

    @wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        for attempt in range(1, _CONFLICT_TRIES):
            try:
                return method(*args, **kwargs)
            except StorageConflict:
                sleep(random() * 0.05 * 2**attempt)
        return method(*args, **kwargs)

    return wrapper


@contextmanager
def translated() -> Iterator[None]:
    """Turn the drivers' errors into ours, keeping the cause."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise _our_error(error) from error
    except DBAPIError as error:
        full = getattr(error.orig, "sqlstate", None) in _PG_FULL
        if error.connection_invalidated or full or _sqlite_name(error.orig).startswith(_SQLITE_DAMAGED):
            raise _our_error(error) from error
        raise


def _our_error(error: Exception) -> ServerError:
    cause = getattr(error, "orig", None) or error
    sentence = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    sqlite = _sqlite_name(cause)
    if sqlite == "SQLITE_FULL" or getattr(cause, "sqlstate", None) in _PG_FULL:
        return StorageFull("The database's disk is full.", "Make room; what was accepted before is safe.")
    if sqlite.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        how = "is read-only" if sqlite.startswith("SQLITE_READONLY") else "cannot be opened or made"
        return StorageUnavailable(f"The database's file {how}.", "Check the rights on it and on its folder.")
    if sqlite.startswith("SQLITE_IOERR"):
        return StorageUnavailable(
            f"The database's file cannot be read or written: {sentence}.", "Check its disk, its quota and its limits."
        )
    if sqlite.startswith(_SQLITE_DAMAGED):
        return StorageUnavailable(f"The database's file is damaged: {sentence}.", "Name another, or restore a copy.")
    if getattr(cause, "sqlstate", None) in _PG_CONFLICT:
        return StorageConflict(f"The database is busy: {sentence}.", "Try again.")
    return StorageUnavailable(
        f"The database does not answer: {sentence}.",
        "Check EMBEDMILL_DATABASE_URL and EMBEDMILL_DATA_DIR, and that the server runs.",
    )


def _sqlite_name(cause: BaseException | None) -> str:
    return str(getattr(cause, "sqlite_errorname", ""))
