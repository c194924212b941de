"""The store of uploads: files on their way in, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select, update

from storage.contract.errors import Conflict, NotFound
from storage.database import Database, now_ms
from storage.files import made_id
from storage.filetables import FileRow, UploadRow

#: How long an upload takes parts, in milliseconds.
_LIFE = 3_600_000


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload.

    Args:
        id: `upload_` and 32 hexadecimal digits.
        key_id: Whose it is.
        state: `pending`, `completed`, `cancelled` or `expired`.
        purpose: That of the file.
        filename: That of the file.
        size: Bytes that were announced.
        file_id: The file that it became, or None.
        created_at: Milliseconds since 1970.
        expires_at: The same.
    """

    id: str
    key_id: str
    state: str
    purpose: str
    filename: str
    size: int
    file_id: str | None
    created_at: int
    expires_at: int


class UploadStore:
    """Every read and write of uploads."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(self, filename: str, purpose: str, size: int, key_id: str = "", life: int | None = None) -> Upload:
        """Begin an upload.

        Args:
            filename: What the file will be called.
            purpose: That of the file.
            size: Its bytes.
            key_id: Whose it is.
            life: Seconds after which the file goes; None: never.
        """
        values: dict[str, Any] = {
            "id": made_id("upload_", self._db.clock),
            "key_id": key_id,
            "state": "pending",
            "purpose": purpose,
        }
        values |= {"filename": filename, "size": size, "file_life": life}
        with self._db.write() as connection:
            times = {"created_at": now_ms(), "expires_at": now_ms() + _LIFE}
            connection.execute(insert(UploadRow).values(values | times))
        return self.get(values["id"])

    def get(self, upload_id: str, sees: str | None = None) -> Upload:
        """Return an upload.

        Args:
            upload_id: Its id.
            sees: Whose it must be; None: anybody's.

        Raises:
            NotFound: When there is none that the caller sees.
        """
        wanted = select(UploadRow, (UploadRow.expires_at <= now_ms()).label("over")).where(UploadRow.id == upload_id)
        if sees is not None:
            wanted = wanted.where(UploadRow.key_id == sees)
        with self._db.read() as connection:
            row = connection.execute(wanted).first()
        if row is None:
            raise NotFound("There is no such upload.", "POST /v1/uploads begins one.")
        fields = {name: getattr(row, name) for name in Upload.__dataclass_fields__}
        return Upload(**(fields | ({"state": "expired"} if row.over and row.state == "pending" else {})))

    def pending(self, upload_id: str, sees: str | None = None) -> Upload:
        """Return an upload that still takes parts.

        Raises:
            NotFound: As `get`.
            Conflict: When it takes none any more.
        """
        upload = self.get(upload_id, sees)
        if upload.state != "pending":
            raise Conflict(f"The upload is {upload.state}.", "Begin a new one.")
        return upload

    def received(self, upload_id: str) -> int:
        """Return how many bytes the parts of an upload hold by now."""
        parts = (FileRow.upload_id == upload_id, FileRow.state == "part")
        with self._db.read() as connection:
            return int(connection.execute(select(func.coalesce(func.sum(FileRow.size), 0)).where(*parts)).scalar_one())

    def cancel(self, upload_id: str, sees: str | None = None) -> Upload:
        """End an upload; its parts go by themselves. Cancelled twice is the same.

        Raises:
            NotFound: As `get`.
            Conflict: When it ended otherwise.
        """
        pending = (UploadRow.id == upload_id, UploadRow.state == "pending", UploadRow.expires_at > now_ms())
        upload = self.get(upload_id, sees)
        with self._db.write() as connection:
            connection.execute(update(UploadRow).where(*pending).values(state="cancelled"))
        upload = self.get(upload.id)
        if upload.state != "cancelled":
            raise Conflict(f"The upload is {upload.state}.")
        return upload
