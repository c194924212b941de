"""Turns the drivers' errors into ours, keeping the cause; runs again what only stood in another's way."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from random import random
from time import sleep
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage import counters, fullness
from storage.contract.errors import ServerError, StorageFull, StorageUnavailable

_PG_FULL = {"53100"}

#: read_only_sql_transaction: what a primary answers that was made a standby.
PG_READ_ONLY = "25006"

#: That; idle_in_transaction_session_timeout; transaction_timeout; io_error; internal_error. Drivers class them as if
#: the statement were wrong.
_PG_AWAY = {PG_READ_ONLY, "25P03", "25P04", "58030", "XX000"}

#: serialization_failure, deadlock_detected, lock_not_available: the same transaction may succeed a moment later.
_PG_CONFLICT = {"40001", "40P01", "55P03"}

#: invalid_sql_statement_name, duplicate_prepared_statement: this is not the server process that prepared it.
PG_UNPREPARED = {"26000", "42P05"}

#: insufficient_privilege: a role of one's own has not been granted what this statement needs.
_PG_FORBIDDEN = "42501"

_SQLITE_DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT")

#: What to do about a SQLite file that somebody else has been writing to for longer than anybody waits.
LOCKED = "Look what else writes to it: embedmill doctor names the process."

_CONFLICT_TRIES = 4

P = ParamSpec("P")
T = TypeVar("T")


class StorageConflict(StorageUnavailable):
    """Raised when two transactions got in each other's way and this one was undone."""

    code = "storage_conflict"


class StorageForbidden(StorageUnavailable):
    """Raised when PostgreSQL's role has not the right to do something."""


def retried(method: Callable[P, T]) -> Callable[P, T]:
    """Run a method that is one transaction again, a few times with jitter, when another transaction got in its way."""

    @wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        for attempt in range(1, _CONFLICT_TRIES):
            try:
                return method(*args, **kwargs)
            except StorageConflict:
                counters.count("conflicts_retried")
                sleep(random() * 0.05 * 2**attempt)
        return method(*args, **kwargs)

    return wrapper


@contextmanager
def translated() -> Iterator[None]:
    """Turn the drivers' errors into ours, keeping the cause."""
    try:
        yield
    # SQLite's own too, of what is done past SQLAlchemy: copies of a file, and its pragmas.
    except (OperationalError, InterfaceError, PoolTimeout, sqlite3.OperationalError) as error:
        raise _our_error(error) from error
    except (DBAPIError, sqlite3.DatabaseError) as error:
        cause = getattr(error, "orig", None) or error
        known = getattr(cause, "sqlstate", None) in _PG_FULL | _PG_AWAY | {_PG_FORBIDDEN}
        is_lost = isinstance(error, DBAPIError) and error.connection_invalidated
        if is_lost or known or sqlite_name(cause).startswith(_SQLITE_DAMAGED):
            raise _our_error(error) from error
        raise


def _our_error(error: Exception) -> ServerError:
    cause = getattr(error, "orig", None) or error
    sentence = _sentence(cause)
    sqlite = sqlite_name(cause)
    if sqlite == "SQLITE_FULL" or getattr(cause, "sqlstate", None) in _PG_FULL:
        fullness.met()
        return StorageFull("The database's disk is full.", "Make room; what was accepted before is safe.")
    if sqlite.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        how = "is read-only" if sqlite.startswith("SQLITE_READONLY") else "cannot be opened or made"
        return StorageUnavailable(f"The database's file {how}.", "Check the rights on it and on its folder.")
    if sqlite.startswith("SQLITE_IOERR"):
        return StorageUnavailable(
            f"The database's file cannot be read or written: {sentence}.", "Check its disk, its quota and its limits."
        )
    if sqlite.startswith("SQLITE_BUSY"):
        return StorageUnavailable(f"The database does not answer: {sentence}.", LOCKED)
    if sqlite.startswith(_SQLITE_DAMAGED):
        return StorageUnavailable(f"The database's file is damaged: {sentence}.", "Name another, or restore a copy.")
    if getattr(cause, "sqlstate", None) in _PG_CONFLICT:
        return StorageConflict(f"The database is busy: {sentence}.", "Try again.")
    if getattr(cause, "sqlstate", None) in PG_UNPREPARED:
        return StorageConflict(f"A pooler hands transactions to other server processes: {sentence}.", "Try again.")
    if getattr(cause, "sqlstate", None) == _PG_FORBIDDEN:
        return StorageForbidden(
            f"The database does not let this role do that: {sentence}.",
            "Have the owner of its tables run `embedmill migrate`, naming the role: that grants what is needed.",
        )
    # Of a connection that was lost the driver speaks of TLS too: whoever was trusted before has gone away.
    is_lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if not is_lost and ("certificate" in sentence or "SSL" in sentence):
        return StorageUnavailable(
            f"The database is not trusted, or speaks no TLS: {sentence}.",
            "Check the server's certificate, and sslmode and sslrootcert in EMBEDMILL_DATABASE_URL.",
        )
    return StorageUnavailable(
        f"The database does not answer: {sentence}.",
        "Check EMBEDMILL_DATABASE_URL and EMBEDMILL_DATA_DIR, and that the server runs.",
    )


def _sentence(cause: BaseException) -> str:
    """Return what a driver says, in a line; of several addresses that were tried in vain, the last one's."""
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return lines[-1].lstrip("- ") if lines[0].startswith("Multiple connection attempts failed") else lines[0]


def sqlite_name(cause: BaseException | None) -> str:
    """Return SQLite's own name of an error, empty where it is none of SQLite's."""
    return str(getattr(cause, "sqlite_errorname", ""))
