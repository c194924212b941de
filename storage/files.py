"""The store of files: bytes in blocks of about 1 MB, written while they arrive and read while they leave."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import zstandard
from sqlalchemy import ColumnElement, insert, or_, select, update

from storage.clock import Clock
from storage.contract.errors import Conflict, NotFound, ServerError
from storage.contract.ids import new_id
from storage.database import Database, now_ms
from storage.faults import retried
from storage.filetables import BATCH_IS_UNFINISHED, GOING, BatchRow, FileBlockRow, FileRow, UploadRow
from storage.filewriter import BLOCK, FileWriter, remove

#: A file whose writer has been silent for so long is thrown away, in milliseconds.
_ABANDONED_AFTER = 24 * 3600 * 1000

#: Files that are removed in one go.
_REMOVED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file.

    Args:
        id: `file-` and 32 hexadecimal digits; the later it was made, the greater.
        key_id: Whose it is.
        purpose: `batch`, or `batch_output`.
        filename: What its owner calls it.
        size: In bytes.
        sha256: Of its bytes, in hexadecimal digits.
        created_at: Milliseconds since 1970.
        expires_at: The same, or None where it stays until it is deleted.
        parts: The ids under which its blocks lie, in order.
    """

    id: str
    key_id: str
    purpose: str
    filename: str
    size: int
    sha256: str
    created_at: int
    expires_at: int | None
    parts: tuple[str, ...]


def made_id(prefix: str, clock: Clock) -> str:
    """Return a new id that sorts by the time it was made, such as `file-` and 32 hexadecimal digits."""
    return prefix + new_id(clock.now()).replace("-", "")


class FileStore:
    """Every read and write of files."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def open(
        self,
        filename: str,
        purpose: str,
        key_id: str = "",
        *,
        life: int | None = None,
        upload_id: str | None = None,
        state: str = "ready",
    ) -> FileWriter:
        """Begin a file that nobody sees before its writer is done.

        Args:
            filename: What its owner calls it.
            purpose: `batch`, or `batch_output`.
            key_id: Whose it is.
            life: Seconds after which it goes; None: never.
            upload_id: The upload that it is a part of.
            state: What it is when its writer is done: `ready`, or `written`, which is seen only later.
        """
        made = made_id("part_" if upload_id else "file-", self._db.clock)
        values: dict[str, Any] = {
            "id": made,
            "key_id": key_id,
            "state": "writing",
            "purpose": purpose,
            "filename": filename,
        }
        values |= {"upload_id": upload_id, "created_at": now_ms(), "size": 0}
        values["expires_at"] = None if life is None else now_ms() + life * 1000
        with self._db.write() as connection:
            connection.execute(insert(FileRow).values(values))
        # What is written for a batch was promised with it.
        asked = key_id if purpose != "batch_output" else ""
        return FileWriter(self._db, made, "part" if upload_id else state, asked)

    def get(self, file_id: str, sees: str | None = None) -> StoredFile:
        """Return a file.

        Args:
            file_id: Its id.
            sees: Whose it must be; None: anybody's.

        Raises:
            NotFound: When there is none that the caller sees.
        """
        wanted = select(FileRow).where(FileRow.id == file_id, *_visible(sees))
        with self._db.read() as connection:
            row = connection.execute(wanted).first()
        if row is None:
            raise NotFound("There is no such file.", "GET /v1/files lists those that are kept.")
        return _stored(row)

    def page(
        self,
        limit: int,
        *,
        after: str | None = None,
        newest_first: bool = True,
        purpose: str | None = None,
        sees: str | None = None,
    ) -> list[StoredFile]:
        """Return files by the time they were made.

        Args:
            limit: At most so many.
            after: Only those that follow the one of this id.
            newest_first: Their order.
            purpose: Only those of this purpose.
            sees: Only those of this owner; None: of all.
        """
        wanted = select(FileRow).where(*_visible(sees))
        if after is not None:
            wanted = wanted.where(FileRow.id < after if newest_first else FileRow.id > after)
        if purpose is not None:
            wanted = wanted.where(FileRow.purpose == purpose)
        order = FileRow.id.desc() if newest_first else FileRow.id.asc()
        with self._db.read() as connection:
            return [_stored(row) for row in connection.execute(wanted.order_by(order).limit(limit))]

    def content(self, file: StoredFile) -> Iterator[bytes]:
        """Yield the bytes of a file, block by block.

        Raises:
            NotFound: When it is deleted meanwhile.
        """
        left = file.size
        for part in file.parts:
            number = 0
            while (block := self._block(part, number)) is not None:
                left -= len(block)
                number += 1
                yield block
        if left:
            raise NotFound("The file was deleted while it was read.")

    def delete(self, file_id: str, sees: str | None = None) -> None:
        """Delete a file.

        Raises:
            NotFound: When there is none that the caller sees.
            Conflict: When a batch is reading it.
        """
        file = self.get(file_id, sees)
        of_batch = (BATCH_IS_UNFINISHED, BatchRow.state == "validating", BatchRow.input_file_id == file_id)
        read = select(BatchRow.id).where(*of_batch)
        with self._db.write() as connection:
            if connection.execute(read.limit(1)).first() is not None:
                raise Conflict("A batch is reading this file.", "Delete it when the batch is past validating.")
            # Unknown from here on; what of it could not be removed now is swept away.
            connection.execute(update(FileRow).where(FileRow.id == file_id).values(state=GOING))
        remove(self._db, sorted({file_id, *file.parts}))

    def join(self, upload_id: str, part_ids: Sequence[str], md5: str | None = None) -> StoredFile | None:
        """Make one file of the parts of a pending upload, whose bytes stay where they are.

        Args:
            upload_id: The upload; it is completed.
            part_ids: Its parts, in order.
            md5: What the file's MD5 must be, in hexadecimal digits.

        Returns:
            The file; None when the upload was ended meanwhile.

        Raises:
            NotFound: When a part is not of the upload.
            Conflict: When one comes twice, or size or MD5 are others than were said.
        """
        with self._db.read() as connection:
            upload = connection.execute(select(UploadRow).where(UploadRow.id == upload_id)).one()
            wanted = select(FileRow).where(FileRow.upload_id == upload_id, FileRow.state == "part")
            known = {row.id: _stored(row) for row in connection.execute(wanted)}
        if not set(part_ids) <= set(known):
            raise NotFound("part_ids names what is no part of this upload.", "Name what adding parts answered.")
        if len(set(part_ids)) != len(part_ids):
            raise Conflict("part_ids names a part twice.", "Name each part once.")
        parts = [known[part] for part in part_ids]
        size = sum(part.size for part in parts)
        if size != upload.size:
            raise Conflict(f"The parts hold {size} bytes, but {upload.size} were announced.", "Add what is missing.")
        sha256, found = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        for part in parts:
            for block in self.content(part):
                sha256.update(block)
                found.update(block)
        if md5 is not None and md5.lower() != found.hexdigest():
            raise Conflict("The MD5 of the parts is another than was said.", "Upload them again.")
        return self._joined(upload, parts, sha256.hexdigest())

    @retried
    def _joined(self, upload: object, parts: Sequence[StoredFile], sha256: str) -> StoredFile | None:
        given = {name: getattr(upload, name) for name in ("key_id", "purpose", "filename", "size")}
        file_id, upload_id = made_id("file-", self._db.clock), str(getattr(upload, "id", ""))
        life = getattr(upload, "file_life", None)
        values = given | {"id": file_id, "state": "ready", "sha256": sha256, "created_at": now_ms()}
        values |= {"parts": {"ids": [part.id for part in parts]}}
        values["expires_at"] = None if life is None else now_ms() + life * 1000
        # Its time may be over by now, and its parts be swept away: hashing a large one takes seconds.
        pending = (UploadRow.id == upload_id, UploadRow.state == "pending", UploadRow.expires_at > now_ms())
        used = (FileRow.id.in_([part.id for part in parts]), FileRow.state == "part")
        with self._db.write() as connection:
            ended = update(UploadRow).where(*pending).values(state="completed", file_id=file_id)
            if not connection.execute(ended).rowcount:
                return None
            taken = connection.execute(update(FileRow).where(*used).values(state="joined", upload_id=None)).rowcount
            if taken != len(parts):
                raise Conflict("A part of the upload has gone meanwhile.", "Upload it again.")
            connection.execute(insert(FileRow).values(values))
        return self.get(file_id)

    @retried
    def check_room(self) -> None:
        """Find out, by writing a block, whether a database that has refused a write for want of room has some again.

        A small write proves nothing: it may find room in what is kept to be used again.

        Raises:
            StorageFull: When it has none yet.
        """
        if not self._db.is_full:
            return
        writer = self.open("", "room")
        try:
            writer.write(os.urandom(BLOCK))
        finally:
            # Else it is swept away, as a file whose writer is gone.
            with suppress(ServerError):
                writer.discard()
        self._db.is_full = False

    def sweep(self) -> int:
        """Remove some files whose time is over, whose writer is gone or whose removal was cut off; return how many."""
        silent = FileRow.state.in_(("writing", "written")) & (FileRow.created_at < now_ms() - _ABANDONED_AFTER)
        lost = (FileRow.state == "part") & FileRow.upload_id.not_in(
            select(UploadRow.id).where(UploadRow.state == "pending", UploadRow.expires_at > now_ms())
        )
        over = FileRow.expires_at.is_not(None) & (FileRow.expires_at <= now_ms())
        going = or_(silent, lost, over, FileRow.state == GOING)
        with self._db.read() as connection:
            doomed = [_stored(row) for row in connection.execute(select(FileRow).where(going).limit(_REMOVED_AT_ONCE))]
        for file in doomed:
            with self._db.write() as connection:
                # Asked again: what was written long ago may have been let be seen meanwhile.
                marked = update(FileRow).where(FileRow.id == file.id, going).values(state=GOING)
                is_going = connection.execute(marked).rowcount
            if is_going:
                remove(self._db, sorted({file.id, *file.parts}))
        return len(doomed)

    def _block(self, part: str, number: int) -> bytes | None:
        wanted = select(FileBlockRow.data).where(FileBlockRow.file_id == part, FileBlockRow.number == number)
        with self._db.read() as connection:
            data = connection.execute(wanted).scalar()
        return None if data is None else zstandard.ZstdDecompressor().decompress(data)


def _visible(sees: str | None) -> tuple[ColumnElement[bool], ...]:
    living = or_(FileRow.expires_at.is_(None), FileRow.expires_at > now_ms())
    seen = (FileRow.state == "ready", living)
    return seen if sees is None else (*seen, FileRow.key_id == sees)


def _stored(row: object) -> StoredFile:
    names = ("id", "key_id", "purpose", "filename", "size", "sha256", "created_at", "expires_at")
    parts = getattr(row, "parts", None)
    own = (str(getattr(row, "id", "")),)
    return StoredFile(**{name: getattr(row, name) for name in names}, parts=tuple(parts["ids"]) if parts else own)
