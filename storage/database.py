"""Engines and transactions: one SQLite file or one PostgreSQL, with the same promises.

Every write on SQLite begins with BEGIN IMMEDIATE: a transaction that reads first and then wants to write fails at once
under WAL, whatever the busy timeout. Time is always the database's own clock, in milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Connection, Engine, create_engine, make_url, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from storage.clock import Clock
from storage.contract.errors import InvalidOption, MissingExtra, SchemaMismatch, StorageFull, StorageUnavailable
from storage.contract.settings import Settings
from storage.faults import translated
from storage.filesystems import refuse_network_file_system
from storage.postgresserver import postgres_engine
from storage.sqlitefile import SqliteFile, give_back, prepare_folder

#: The newest migration this program knows; a test keeps it equal to Alembic's head.
SCHEMA_VERSION = "0016"

#: How long a SQLite writer waits for another before it gives up, in milliseconds.
_BUSY_TIMEOUT = 30_000


#: The kinds of databases, each with the one driver that it is spoken to with.
_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg"}

#: Milliseconds since 1970 on SQLite's clock, which stands still for a statement.
SQLITE_NOW = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


class now_ms(GenericFunction[int]):
    """Milliseconds since 1970 on the database's clock, at this very moment."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _now_sqlite(element: now_ms, compiler: Any, **kw: Any) -> str:
    return SQLITE_NOW


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
        #: Whether the last write that needed room found none.
        self.is_full = False
        self.clock = Clock(self._ask_time)
        self._writing: Callable[[], AbstractContextManager[None]] = nullcontext
        #: Makes an empty SQLite file where there is none; nobody else does.
        self.make: Callable[[], None] = lambda: None
        #: Waits until what was written without waiting is on the disk; raises StorageUnavailable when it is not.
        self.settle: Callable[[], None] = lambda: None
        try:
            self.engine = self._make_engine()
        except ModuleNotFoundError as error:
            raise MissingExtra("The PostgreSQL driver", "postgres") from error

    def _make_engine(self) -> Engine:
        if self.is_sqlite:
            engine = create_engine(self.url, hide_parameters=True, connect_args={"timeout": self._busy_timeout / 1000})
            file = SqliteFile(Path(self.url.database or ""), self._busy_timeout)
            file.keep(engine)
            self._writing, self.settle, self.make = file.writing, file.settle, file.make
            return engine
        return postgres_engine(self.url)

    @contextmanager
    def read(self, one_moment: bool = False) -> Iterator[Connection]:
        """Open a read transaction; keep it short, a long one makes SQLite's log grow.

        Args:
            one_moment: Whether all its statements must see the same moment, as they always do on SQLite.

        Raises:
            StorageUnavailable: When the database cannot be reached.
        """
        with translated(), self.engine.connect() as connection:
            if one_moment and not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self, durable: bool = True) -> Iterator[Connection]:
        """Open a write transaction that commits at the end of the block and rolls back on any error.

        Args:
            durable: Whether it must survive a loss of power, as every job and every result must. Who sends, leads or
                holds a lease on a SQLite file loses power with it, so that these need not, and no disk is waited for.
                PostgreSQL may lose power alone, and keeps everything.

        Raises:
            StorageUnavailable: When the database cannot be reached or stays locked.
            StorageFull: When its disk is full.
        """
        begun = False
        try:
            with translated(), self._writing(), self.engine.connect() as connection:
                connection = connection.execution_options(embedmill_write=True, embedmill_durable=durable)
                with connection.begin():
                    begun = True
                    yield connection
        except StorageUnavailable as error:
            error.begun = begun
            raise
        except StorageFull:
            self.is_full = True
            raise

    def _ask_time(self) -> int:
        with self.read() as connection:
            return int(connection.execute(select(now_ms())).scalar_one())

    def give_back(self) -> bool:
        """Give some room that deleted rows have left back to the disk; return whether there is more to give.

        PostgreSQL looks after that by itself: its autovacuum makes the room free for new rows.
        """
        if not self.is_sqlite:
            return False
        with self.write(durable=False) as connection:
            return give_back(connection)

    def check_schema(self, running: bool = False) -> None:
        """Check that the schema is the one this program knows.

        Args:
            running: Whether this process has checked it before: then a newer one is as good, since migrations only add,
                and whoever runs works on while the next version is rolled out.

        Raises:
            SchemaMismatch: When it is older (migrate it) or newer (upgrade this program) or missing.
            StorageUnavailable: When the database cannot be reached.
        """
        found = self.schema_version()
        if found == SCHEMA_VERSION or (running and found is not None and found > SCHEMA_VERSION):
            return
        if found is None:
            raise SchemaMismatch("The database has no Embedmill schema yet.", "Run `embedmill migrate`.")
        if found < SCHEMA_VERSION:
            raise SchemaMismatch(
                f"The database's schema is {found}, this program needs {SCHEMA_VERSION}.", "Run `embedmill migrate`."
            )
        raise newer_schema(found)

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
    database = placed_database(settings)
    try:
        if settings.database_is_embedded:
            database.make()
            if (database.schema_version() or "") < SCHEMA_VERSION:
                from storage.migrations import migrate  # Alembic costs a quarter of a second, and only here

                migrate(database)
        database.check_schema()
    except BaseException:
        database.close()
        raise
    return database


def placed_database(settings: Settings) -> Database:
    """Return the database of the settings, which nobody has opened yet, in a place that is fit for it.

    Raises:
        StorageUnavailable: When the embedded one's folder cannot be made, or a SQLite file lies on a network.
    """
    if settings.database_is_embedded:
        prepare_folder(settings.data_dir)
    database = Database(settings.database)
    if database.is_sqlite:
        refuse_network_file_system(Path(database.url.database or ""))
    return database


def newer_schema(found: str) -> SchemaMismatch:
    """Return what is said of a schema that a newer program has made."""
    return SchemaMismatch(
        f"The database's schema is {found}, newer than this program knows ({SCHEMA_VERSION}).",
        "Upgrade embedmill on this machine.",
    )


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
    if parsed.get_backend_name() not in _DRIVERS:
        raise InvalidOption(f"{parsed.get_backend_name()} is not supported.", "Use SQLite or PostgreSQL.")
    driver = parsed.get_driver_name()
    if driver != _DRIVERS[parsed.get_backend_name()]:
        raise InvalidOption(
            f"{driver} is not the driver used here.",
            f"Write {parsed.get_backend_name()}:// in place of {parsed.drivername}://.",
        )
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise InvalidOption("A SQLite database in memory is seen by one connection alone.", "Name a file.")
    return parsed
