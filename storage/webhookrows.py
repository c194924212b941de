"""Writes the row of a webhook, in whatever transaction its job is made or found."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert

from storage.contract.ids import new_id
from storage.database import now_ms
from storage.webhooktables import WebhookRow


def write_webhook(connection: Connection, job_id: str, key_id: str, url: str) -> None:
    """Have a job's end told to an address, inside a running transaction.

    Args:
        connection: A write transaction.
        job_id: The job.
        key_id: Whose it is.
        url: As `checked_url` let it pass.
    """
    row: dict[str, Any] = {"id": new_id(), "job_id": job_id, "key_id": key_id, "url": url, "state": "waiting"}
    row |= {"generation": -1, "attempts": 0}
    connection.execute(insert(WebhookRow).values(**row, created_at=now_ms()))
