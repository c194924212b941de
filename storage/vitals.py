"""How the database itself is: its size, how fast it answers, and whether somebody keeps it in order."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import select, text

from storage.database import Database, now_ms
from storage.leaders import RECONCILE
from storage.tables import LeaderRow


class VitalStore:
    """Every read of how the database is."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def size(self) -> int:
        """Return how many bytes the database takes on its disk, SQLite's log included."""
        if self._db.is_sqlite:
            file = self._db.url.database or ""
            return sum(part.stat().st_size for part in map(Path, (file, f"{file}-wal")) if part.exists())
        with self._db.read() as connection:
            return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())

    def latency(self) -> float:
        """Return how long a question that costs nothing takes to be answered, in seconds."""
        with self._db.read() as connection:
            begin = time.perf_counter()
            connection.execute(text("SELECT 1")).scalar_one()
            return time.perf_counter() - begin

    def reconciler_leads(self) -> bool:
        """Return whether some reconciler leads: without one nothing that was lost is found again."""
        leads = select(LeaderRow.owner).where(LeaderRow.duty == RECONCILE, LeaderRow.expires > now_ms())
        with self._db.read() as connection:
            return connection.execute(leads).first() is not None
