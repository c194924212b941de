"""The rows of jobs that are submitted in parts, typed."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from storage.rows import JobId, Row


class PartedJobRow(Row):
    """One job that is, or was, submitted in parts; its token fences off a writer whom another one has followed."""

    __tablename__ = "parted_jobs"
    job_id: Mapped[str] = mapped_column(JobId, ForeignKey("jobs.id"), primary_key=True)
    token: Mapped[int] = mapped_column(default=0)
    on_invalid: Mapped[str] = mapped_column(String(16))


class PartRow(Row):
    """One part that is whole."""

    __tablename__ = "parts"
    job_id: Mapped[str] = mapped_column(JobId, ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    first: Mapped[int]
    items: Mapped[int]
    chunk_end: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
