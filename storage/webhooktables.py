"""The rows of webhooks: whom a job's end is told to, and the secrets that this is signed with."""

from __future__ import annotations

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from storage.rows import JobId, Row, partial_index


class WebhookRow(Row):
    """One address that one job's end is told to, and how far that is."""

    __tablename__ = "webhooks"
    id: Mapped[str] = mapped_column(JobId, primary_key=True)
    job_id: Mapped[str] = mapped_column(JobId)
    key_id: Mapped[str] = mapped_column(String(32))
    url: Mapped[str]
    state: Mapped[str] = mapped_column(String(16))
    generation: Mapped[int]
    message_id: Mapped[str | None] = mapped_column(JobId)
    payload: Mapped[str | None]
    attempts: Mapped[int]
    next_at: Mapped[int | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    delivered_at: Mapped[int | None]
    created_at: Mapped[int]

    __table_args__ = (
        Index("ix_webhooks_job_id_url", "job_id", "url", unique=True),
        partial_index("ix_webhooks_waiting", "job_id", "state = 'waiting'"),
        partial_index("ix_webhooks_pending", "next_at", "state = 'pending'"),
    )


class WebhookSecretRow(Row):
    """What the webhooks of one API key's jobs are signed with; kept as it is, since a signature needs it whole."""

    __tablename__ = "webhook_secrets"
    key_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    secret: Mapped[str]
    previous: Mapped[str | None]
    rotated_at: Mapped[int]
