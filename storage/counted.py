"""The store of counters: how often each defence was needed, by all processes together.

Each process adds what it has counted every second or so. One that is killed takes its last counts with it; what it
defended is not lost by that.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from storage import counters
from storage.contract.errors import ServerError
from storage.database import Database
from storage.postgresserver import limit
from storage.tables import CounterRow

#: How long PostgreSQL lets a counter wait for another process that adds to it. A host that vanishes in the midst holds
#: its row for a minute, and no heartbeat may wait behind it: what is not added now is added the next time.
_PATIENCE = "200ms"


class CounterStore:
    """Every read and write of counters."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def flush(self) -> None:
        """Add what this process has counted to the database; keeps it for the next time when that fails.

        Raises:
            StorageUnavailable: When the database cannot be reached, or another process adds to the same at this moment.
        """
        counted = counters.take()
        if not counted:
            return
        try:
            self._add(counted)
        except BaseException:
            counters.put_back(counted)
            raise

    def all(self) -> dict[str, int]:
        """Return every counter, zeros too."""
        with self._db.read() as connection:
            found = {row.name: row.value for row in connection.execute(select(CounterRow.name, CounterRow.value))}
        return {name: found.get(name, 0) for name in counters.MEANINGS}

    def _add(self, counted: Counter[str]) -> None:
        try:
            self._write(counted)
        except IntegrityError:
            # Another process has written the first of a counter in the same moment.
            self._write(counted)

    def _write(self, counted: Counter[str]) -> None:
        with self._db.write() as connection:
            if not self._db.is_sqlite:
                limit(connection, lock_timeout=_PATIENCE)
            # In one order everywhere, so that two processes never wait for each other.
            for name, times in sorted(counted.items()):
                same = CounterRow.name == name
                more = update(CounterRow).where(same).values(value=CounterRow.value + times)
                if not connection.execute(more).rowcount:
                    connection.execute(insert(CounterRow).values(name=name, value=times))


def count_at_once(database: Database, *names: str) -> None:
    """Count something in a process that adds nothing up from time to time, as the service does.

    Args:
        database: Where it is added up; where that fails, it is with the next that is counted.
        *names: Each one of `storage.counters.MEANINGS`.
    """
    for name in names:
        counters.count(name)
    with suppress(ServerError):
        CounterStore(database).flush()
