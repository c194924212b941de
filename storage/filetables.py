"""The rows of OpenAI's dialect: files in blocks, uploads, batches and what their lines became."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, String, literal_column
from sqlalchemy.orm import Mapped, mapped_column

from storage.rows import JobId, Row, partial_index


class FileRow(Row):
    """One file, or one part of an upload; its bytes lie in blocks, its own or its parts'."""

    __tablename__ = "files"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(32), default="")
    state: Mapped[str] = mapped_column(String(16))
    purpose: Mapped[str] = mapped_column(String(32))
    filename: Mapped[str]
    size: Mapped[int] = mapped_column(default=0)
    sha256: Mapped[str | None] = mapped_column(String(64))
    upload_id: Mapped[str | None] = mapped_column(String(64))
    parts: Mapped[dict[str, Any] | None]
    created_at: Mapped[int]
    expires_at: Mapped[int | None]

    __table_args__ = (
        Index("ix_files_key_id", "key_id", "id"),
        partial_index("ix_files_upload_id", "upload_id", "upload_id IS NOT NULL"),
        partial_index("ix_files_expires_at", "expires_at", "expires_at IS NOT NULL"),
    )


class FileBlockRow(Row):
    """About 1 MB of a file, compressed."""

    __tablename__ = "file_blocks"
    file_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes]


class UploadRow(Row):
    """A file on its way in, part by part."""

    __tablename__ = "uploads"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(32), default="")
    state: Mapped[str] = mapped_column(String(16))
    purpose: Mapped[str] = mapped_column(String(32))
    filename: Mapped[str]
    size: Mapped[int]
    file_id: Mapped[str | None] = mapped_column(String(64))
    file_life: Mapped[int | None]
    created_at: Mapped[int]
    expires_at: Mapped[int]

    __table_args__ = (partial_index("ix_uploads_pending", "expires_at", "state = 'pending'"),)


class BatchRow(Row):
    """One batch: many requests in a file."""

    __tablename__ = "batches"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(32), default="")
    state: Mapped[str] = mapped_column(String(16))
    input_file_id: Mapped[str] = mapped_column(String(64))
    endpoint: Mapped[str]
    completion_window: Mapped[str] = mapped_column(String(16))
    output_life: Mapped[int | None]
    labels: Mapped[dict[str, Any] | None]
    model: Mapped[str | None]
    errors: Mapped[dict[str, Any] | None]
    output_file_id: Mapped[str | None] = mapped_column(String(64))
    error_file_id: Mapped[str | None] = mapped_column(String(64))
    total: Mapped[int] = mapped_column(default=0)
    completed: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    tokens: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[int]
    expires_at: Mapped[int]
    in_progress_at: Mapped[int | None]
    finalizing_at: Mapped[int | None]
    completed_at: Mapped[int | None]
    failed_at: Mapped[int | None]
    expired_at: Mapped[int | None]
    cancelling_at: Mapped[int | None]
    cancelled_at: Mapped[int | None]
    lease_owner: Mapped[str | None] = mapped_column(JobId)
    lease_expires: Mapped[int | None]

    __table_args__ = (
        Index("ix_batches_key_id", "key_id", "id"),
        partial_index("ix_batches_unfinished", "id", "state IN ('validating', 'in_progress', 'finalizing')"),
    )


class BatchGroupRow(Row):
    """The lines of a batch that are of one model and one set of options: one job."""

    __tablename__ = "batch_groups"
    batch_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    job_id: Mapped[str | None] = mapped_column(JobId)
    model: Mapped[str]
    lines: Mapped[int]
    items: Mapped[int]


class BatchLinesRow(Row):
    """Many lines of a batch: whose each is, and which items of which job it became."""

    __tablename__ = "batch_lines"
    batch_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes]


#: The state of a file that is being removed.
GOING = "going"

#: Batches that are not at their end.
UNFINISHED = ("validating", "in_progress", "finalizing")

# As the partial index of batches has it, with literals.
BATCH_IS_UNFINISHED = BatchRow.state.in_([literal_column(f"'{state}'") for state in UNFINISHED])
