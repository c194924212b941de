"""Writes one file while its bytes arrive, block by block; nobody sees it before it is whole."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import zstandard
from sqlalchemy import delete, insert, select, tuple_, update

from storage.contract.errors import Conflict
from storage.database import Database, now_ms
from storage.faults import retried
from storage.filetables import FileBlockRow, FileRow
from storage.quotas import admit_bytes

#: Bytes of a block before it is compressed.
BLOCK = 1 << 20

#: Blocks removed in one transaction: SQLite overwrites them, and writes each once more to its log.
_STEP = 8

#: Pause between two such transactions, in seconds, in which other writers of a SQLite file get their turn.
_BREATH = 0.001


class FileWriter:
    """Takes the bytes of one file.

    Args:
        database: Where they go.
        file_id: The file.
        state: What it is when it is whole.
        key_id: Whose quota is asked for each block; empty: nobody's.
    """

    def __init__(self, database: Database, file_id: str, state: str, key_id: str = "") -> None:
        self.id = file_id
        self.size = 0
        self._db = database
        self._state = state
        self._key_id = key_id
        self._sha256 = hashlib.sha256()
        self._rest = bytearray()
        self._number = 0

    def write(self, data: bytes) -> None:
        """Take some bytes; whole blocks are written at once.

        Raises:
            QuotaExceeded: When its key may not keep so many.
        """
        self.size += len(data)
        self._sha256.update(data)
        self._rest += data
        while len(self._rest) >= BLOCK:
            self._flush(bytes(self._rest[:BLOCK]))
            del self._rest[:BLOCK]

    def close(self, filename: str | None = None, life: int | None = None) -> None:
        """Make the file seen, whole.

        Args:
            filename: What it is called, where that was not known before.
            life: Seconds after which it goes, in place of what was said before; None leaves that.

        Raises:
            Conflict: When it was removed meanwhile.
            QuotaExceeded: When its key may not keep so many bytes.
        """
        if self._rest:
            self._flush(bytes(self._rest))
        values: dict[str, Any] = {"state": self._state, "size": self.size, "sha256": self._sha256.hexdigest()}
        values |= {} if filename is None else {"filename": filename}
        values |= {} if life is None else {"expires_at": now_ms() + life * 1000}
        writing = (FileRow.id == self.id, FileRow.state == "writing")
        with self._db.write() as connection:
            if not connection.execute(update(FileRow).where(*writing).values(values)).rowcount:
                raise Conflict("The file was removed while it was written.", "Send it again.")
            # Asked again: one that took hours counted no more, and does from now on.
            admit_bytes(connection, self._key_id)

    def discard(self) -> None:
        """Remove what was written."""
        remove(self._db, [self.id])

    def _flush(self, block: bytes) -> None:
        data = zstandard.ZstdCompressor(level=1).compress(block)
        with self._db.write() as connection:
            connection.execute(insert(FileBlockRow).values(file_id=self.id, number=self._number, data=data))
            # As far as it is: of several that are sent at once each is seen by the others.
            grown = update(FileRow).where(FileRow.id == self.id).values(size=FileRow.size + len(block))
            connection.execute(grown)
            admit_bytes(connection, self._key_id)
        self._number += 1


def remove(database: Database, file_ids: Sequence[str]) -> None:
    """Remove files, or parts, that nobody sees: their blocks in small steps, so that others write meanwhile, then them.

    Can be taken up again where it was cut off.
    """
    while _remove_blocks(database, file_ids):
        time.sleep(_BREATH)
    with database.write() as connection:
        connection.execute(delete(FileRow).where(FileRow.id.in_(file_ids)))


@retried
def _remove_blocks(database: Database, file_ids: Sequence[str]) -> bool:
    """Remove a few blocks; return whether there were any."""
    key = tuple_(FileBlockRow.file_id, FileBlockRow.number)
    some = select(FileBlockRow.file_id, FileBlockRow.number).where(FileBlockRow.file_id.in_(file_ids)).limit(_STEP)
    with database.write() as connection:
        found = [tuple(row) for row in connection.execute(some)]
        connection.execute(delete(FileBlockRow).where(key.in_(found)))
    return bool(found)
