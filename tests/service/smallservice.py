"""A service whose database lies on a disk of a few megabytes, to be filled."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from producer.api.settings import ApiSettings
from storage.database import Database
from storage.migrations import migrate
from storage.quotas import Quota
from tests.faults.smalldisk import SmallDisk, small_disk
from tests.servers import running_postgres, short_folder
from tests.service.serving import Served, serving
from tests.storage.builders import CARD

NDJSON = {"Content-Type": "application/x-ndjson"}

#: What a batch is made of: one line.
BATCH = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": "wheat"}}).encode()


def incompressible(number: int = 100) -> list[str]:
    """Return texts that cannot be compressed, of 30 kB each."""
    return [base64.b64encode(os.urandom(22_500)).decode() for _ in range(number)]


@dataclass(frozen=True)
class Small:
    """A service whose database lies on a small disk.

    Args:
        served: The service.
        disk: Where its database lies.
        kind: `sqlite` or `postgresql`.
        key: The API key that it is asked with; empty: keys are not used.
    """

    served: Served
    disk: SmallDisk
    kind: str
    key: str

    def fill(self, room: int = 0) -> None:
        """Leave no room at all, not even in what SQLite's log would use again.

        Args:
            room: Bytes that are left.
        """
        if self.kind == "sqlite":
            with closing(sqlite3.connect(self.disk.path / "db.sqlite3", timeout=60)) as connection:
                assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        self.disk.fill(room)

    def http(self) -> httpx.Client:
        """Return an HTTP client that sends the key."""
        return self.served.http(self.key or None)


@contextmanager
def small_service(kind: str, quota: Quota | None = None) -> Iterator[Small]:
    """Serve over a database of its own on a small disk.

    Args:
        kind: `sqlite` or `postgresql`.
        quota: What the key may have and use; None: no keys are used.
    """
    with ExitStack() as stack:
        folder: Path = stack.enter_context(short_folder())
        disk = stack.enter_context(small_disk(24 if kind == "sqlite" else 80))
        if kind == "sqlite":
            url = f"sqlite:///{disk.path}/db.sqlite3"
        else:
            server = stack.enter_context(running_postgres())
            url = server.url(server.create())
            server.stop()
            # The log lies elsewhere: what is full is the disk of the tables.
            disk.take(server.folder / "data" / "base")
            server.start()
        database = Database(url)
        migrate(database)
        database.close()
        auth = "none" if quota is None else "keys"
        settings = ApiSettings.load(data_dir=folder, database_url=url, model=CARD.name, call_timeout=0.5, auth=auth)
        served = stack.enter_context(serving(settings))
        key = "" if quota is None else served.service.stores.keys.create("miller", quota=quota)[1]
        yield Small(served, disk, kind, key)
