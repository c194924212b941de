"""The store of the service's processes: who answers requests, and in which version."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from storage.database import Database, now_ms
from storage.releases import HERE, Release
from storage.tables import ServiceRow

#: A process not seen for so long counts as gone, in milliseconds; it is seen every 15 s.
_LIVE_WITHIN = 60_000


@dataclass(frozen=True, slots=True)
class ServiceProcess:
    """One live process of the service.

    Args:
        id: The id of this start of the process.
        host: Where it runs.
        pid: Its process id there.
        release: Which program it is.
        up_seconds: For how long it has been there.
        silent_seconds: How long ago it was heard of.
    """

    id: str
    host: str
    pid: int
    release: Release
    up_seconds: float
    silent_seconds: float


class ServiceStore:
    """Every read and write of the service's processes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def note(self, service_id: str, host: str, pid: int, release: Release = HERE) -> None:
        """Note that a process of the service is alive.

        Args:
            service_id: The id of this start of the process.
            host: Where it runs.
            pid: Its process id there.
            release: Which program it is.
        """
        seen = update(ServiceRow).where(ServiceRow.id == service_id).values(last_seen=now_ms())
        row = {"id": service_id, "host": host, "pid": pid}
        row |= {"version": str(release.version), "schema_version": str(release.schema)}
        with self._db.write(durable=False) as connection:
            if not connection.execute(seen).rowcount:
                connection.execute(insert(ServiceRow).values(**row, started_at=now_ms(), last_seen=now_ms()))

    def leave(self, service_id: str) -> None:
        """Forget a process that stops."""
        with self._db.write(durable=False) as connection:
            connection.execute(delete(ServiceRow).where(ServiceRow.id == service_id))

    def forget_gone(self) -> None:
        """Forget processes that have not been seen for ten times as long as a live one may be silent."""
        with self._db.write() as connection:
            connection.execute(delete(ServiceRow).where(ServiceRow.last_seen < now_ms() - 10 * _LIVE_WITHIN))

    def live(self) -> list[ServiceProcess]:
        """Return the live processes, by host and process id."""
        with self._db.read() as connection:
            rows = connection.execute(_LIVE).all()
        return [
            ServiceProcess(
                row.id,
                row.host,
                row.pid,
                Release(row.version, row.schema_version),
                max(0, row.now - row.started_at) / 1000,
                max(0, row.now - row.last_seen) / 1000,
            )
            for row in rows
        ]


_LIVE = (
    select(ServiceRow.__table__, now_ms().label("now"))
    .where(ServiceRow.last_seen > now_ms() - _LIVE_WITHIN)
    .order_by(ServiceRow.host, ServiceRow.pid)
)
