"""The schema's history (Alembic), run by `embedmill migrate` and, for the embedded database, by itself."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from storage.contract.errors import StorageUnavailable
from storage.database import SCHEMA_VERSION, Database, newer_schema
from storage.faults import retried, translated
from storage.postgresserver import limit

#: PostgreSQL advisory lock that lets one migration run at a time.
_ADVISORY_LOCK = 0x656D6265646D696C


#: Seconds between two looks of one that waits for another.
_PAUSE = 0.05


def migrate(database: Database, revision: str = "head") -> str | None:
    """Bring the schema to a revision; a second caller waits for the first and then finds nothing to do.

    Args:
        database: The database to change; a SQLite file is made where there is none.
        revision: Alembic revision; default the newest.

    Returns:
        The version that the schema was at before; None where there was none.

    Raises:
        StorageUnavailable: When the database cannot be reached or written.
        StorageFull: When its disk is full.
        SchemaMismatch: When its schema is newer than this program knows.
    """
    database.make()
    before = database.schema_version()  # reaches the database first, so that a wrong URL is told as one
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["database"] = database
    with translated(), _only_one(database):
        _upgrade(config, revision)
    return before


@retried
def _upgrade(config: Config, revision: str) -> None:
    found = config.attributes["database"].schema_version()
    if found is not None and found > SCHEMA_VERSION:
        raise newer_schema(found)
    config.attributes["in_use"] = found is not None
    with translated():
        command.upgrade(config, revision)


@contextmanager
def _only_one(database: Database) -> Iterator[None]:
    if not database.is_sqlite:
        with database.engine.connect() as connection, connection.begin():
            # However long the other one takes, or this one: the limits of a transaction are not meant for that.
            limit(connection, statement_timeout="0", lock_timeout="0", idle_in_transaction_session_timeout="0")
            # Asked again and again: one that waits in the database would be waited for by an index that is made there
            # beside the others' work, and both for ever.
            while not connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK}):
                time.sleep(_PAUSE)
            # The look holds its snapshot until the next statement, which has none: that index waits for all snapshots.
            connection.exec_driver_sql("SET LOCAL application_name = 'embedmill migrate'")
            yield
        return
    path = Path(database.url.database or "embedmill")
    try:
        lock = open(path.with_name(path.name + ".migrate-lock"), "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise StorageUnavailable(
            f"The folder {path.parent} cannot be written: {error.strerror}.", "Check the rights on it."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
