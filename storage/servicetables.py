"""The rows of services, typed."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from storage.rows import JobId, Row


class ServiceRow(Row):
    """One start of one process of the service."""

    __tablename__ = "services"
    id: Mapped[str] = mapped_column(JobId, primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    version: Mapped[str]
    schema_version: Mapped[str]
    started_at: Mapped[int]
    last_seen: Mapped[int]
