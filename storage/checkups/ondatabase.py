"""The database: is it there, is it one this program can use, is it fast and sound; SQLite and PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import select, text

from storage.checkups import onpostgres, onsqlite
from storage.checkups.check import Area, Outcome, ok, warning, wrong
from storage.checkups.places import median, shown
from storage.contract.errors import StorageUnavailable
from storage.contract.settings import Settings
from storage.database import SCHEMA_VERSION, Database, now_ms
from storage.sqlitefile import DatabaseMissing

#: A claim or a commit is about ten round trips, in milliseconds each.
_SLOW = 20.0

_ASKED = 21

#: Longest wait for another writer of a SQLite file, in milliseconds.
_BUSY = 3_000


def area(settings: Settings) -> Area[Database]:
    """Return the checks of the settings' database."""

    @contextmanager
    def opened() -> Iterator[tuple[Database, Outcome]]:
        with reached(settings) as database:
            yield database, ok(f"The database answers at {shown(settings.database)}.")

    found: Area[Database] = Area("database", "reachable", opened, is_server=True)
    found.check("schema", _schema)
    found.check("latency", _latency)
    found.check("clock", _clock)
    for name, look in (onpostgres.CHECKS if _is_postgres(settings) else onsqlite.CHECKS).items():
        found.check(name, look)
    return found


@contextmanager
def reached(settings: Settings) -> Iterator[Database]:
    """Open the database as it is: nothing is made, nothing migrated.

    Raises:
        StorageUnavailable: When it cannot be reached; says where it was sought.
        InvalidOption: When its URL is none.
        MissingExtra: When its driver is not installed.
    """
    database = Database(settings.database, _BUSY)
    try:
        try:
            with database.read() as connection:
                connection.execute(text("SELECT 1"))
        except DatabaseMissing:
            raise
        except StorageUnavailable as error:
            raise StorageUnavailable(
                f"{error.message} It was sought at {shown(settings.database)}.", error.remedy
            ) from error
        yield database
    finally:
        database.close()


def _is_postgres(settings: Settings) -> bool:
    return settings.database.startswith(("postgres", "postgresql"))


def _schema(database: Database) -> Outcome:
    found = database.schema_version()
    if found == SCHEMA_VERSION:
        return ok(f"Its schema is {found}, the one this program knows.")
    if found is None:
        return wrong("It has no schema of Embedmill's yet.", "Run embedmill migrate.")
    if found < SCHEMA_VERSION:
        told = f"Its schema is {found}, and this program needs {SCHEMA_VERSION}."
        return wrong(told, "Run embedmill migrate; programs of the version before work on meanwhile.")
    told = f"Its schema is {found}, newer than this program knows ({SCHEMA_VERSION})."
    return wrong(told, "Upgrade embedmill on this machine.")


def _latency(database: Database) -> Outcome:
    times = []
    with database.read() as connection:
        for _ in range(_ASKED):
            start = time.perf_counter()
            connection.execute(text("SELECT 1"))
            times.append(1000 * (time.perf_counter() - start))
    found = f"Half of all answers come within {median(times):.1f} ms."
    if median(times) > _SLOW:
        return warning(found, "Bring the database nearer to workers and service, or find out what keeps it busy.")
    return ok(found)


def _clock(database: Database) -> Outcome:
    with database.read() as connection:
        connection.execute(text("SELECT 1"))
        before = time.time()
        theirs = int(connection.execute(select(now_ms())).scalar_one()) / 1000
        ahead = theirs - (before + time.time()) / 2
    if abs(ahead) > 5:
        return warning(
            f"Its clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this host's.",
            "Run NTP on both: leases go by the database's clock alone, but keys of the service and logs do not.",
        )
    return ok(f"Its clock, by which leases go, and this host's differ by {abs(ahead):.2f} s.")
