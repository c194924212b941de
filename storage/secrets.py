"""The store of the service's own secrets: made when first asked for, the same for every process over one database."""

from __future__ import annotations

import os

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from storage.database import Database, now_ms
from storage.faults import retried
from storage.secrettables import SecretRow

#: Bytes of a secret: as many as the hash it is used with.
_BYTES = 32


class SecretStore:
    """Every read and write of secrets."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._known: dict[str, bytes] = {}

    def get(self, name: str) -> bytes:
        """Return a secret of 32 bytes, the same one for ever; it is never logged and never leaves the service.

        Args:
            name: What it is for, and of which time where that matters; at most 32 letters.
        """
        found = self.find(name)
        if found is None:
            found = self._known[name] = self._make(name)
        return found

    def find(self, name: str) -> bytes | None:
        """Return a secret as `get` does, or None where nobody has asked for it yet."""
        if name not in self._known:
            with self._db.read() as connection:
                found = connection.execute(select(SecretRow.value).where(SecretRow.name == name)).scalar()
            if found is None:
                return None
            self._known[name] = bytes(found)
        return self._known[name]

    @retried
    def _make(self, name: str) -> bytes:
        value = os.urandom(_BYTES)
        try:
            with self._db.write() as connection:
                connection.execute(insert(SecretRow).values(name=name, value=value, created_at=now_ms()))
        except IntegrityError:
            # Another process has made it in the same moment, or the answer to our own writing was lost.
            return self.find(name) or b""
        return value
