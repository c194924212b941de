"""The store of webhooks: whom a job's end is told to, what is due, and what became of it."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, literal_column, select, update
from sqlalchemy.exc import IntegrityError

from storage.contract.errors import Conflict
from storage.contract.ids import new_id
from storage.counted import count_at_once
from storage.database import Database, now_ms
from storage.faults import retried
from storage.statementtime import statement_ms
from storage.tables import JobRow
from storage.webhookrows import write_webhook
from storage.webhooktables import WebhookRow, WebhookSecretRow

#: How long messages are signed with the old secret too after a new one was made, in milliseconds.
_BOTH = 86_400_000

#: Addresses that one job's end is told to, at most.
MOST = 8

#: Webhooks changed in one transaction when all are tidied up.
_TIDIED_AT_ONCE = 1_000

_WAITING = WebhookRow.state == literal_column("'waiting'")
_PENDING = WebhookRow.state == literal_column("'pending'")


@dataclass(frozen=True, slots=True)
class Webhook:
    """One address that one job's end is told to.

    Args:
        id: UUIDv7.
        job_id: The job.
        key_id: Whose job it is.
        url: Where its end is told.
        state: `waiting` for the end, `pending` (being told), `delivered`, or `failed` after the last try.
        message_id: The id that every try of one message has.
        payload: What is told, as JSON.
        attempts: Tries so far.
        next_at: When the next try is due, in milliseconds since 1970.
        last_status: What the last try was answered with, or None.
        last_error: Why the last try failed, in words, or None.
        delivered_at: When it was answered well, in milliseconds since 1970.
    """

    id: str
    job_id: str
    key_id: str
    url: str
    state: str
    message_id: str | None
    payload: str | None
    attempts: int
    next_at: int | None
    last_status: int | None
    last_error: str | None
    delivered_at: int | None


class WebhookStore:
    """Every read and write of webhooks and their secrets."""

    def __init__(self, database: Database) -> None:
        self._db = database

    @retried
    def add(self, job_id: str, key_id: str, url: str) -> None:
        """Have a job's end told to an address; the same again changes nothing.

        Args:
            job_id: The job.
            key_id: Whose it is.
            url: As `checked_url` let it pass.

        Raises:
            Conflict: When the job's end is told to as many others as it may be.
        """
        others = select(func.count()).where(WebhookRow.job_id == job_id, WebhookRow.url != url)
        try:
            with self._db.write() as connection:
                if connection.execute(others).scalar_one() >= MOST:
                    raise Conflict(
                        f"The end of job {job_id} is told to {MOST} webhooks already, which is the most.",
                        "Submit without a webhook, and let one of the others pass it on.",
                    )
                write_webhook(connection, job_id, key_id, url)
        except IntegrityError:
            return

    def of_job(self, job_id: str) -> list[Webhook]:
        """Return a job's webhooks, the oldest first."""
        return self._found(WebhookRow.job_id == job_id, limit=1000, order=WebhookRow.id)

    def ended(self, limit: int = 64) -> list[tuple[str, str, int]]:
        """Return webhooks that wait for jobs which have ended: their ids, the jobs, and the jobs' generations."""
        wanted = select(WebhookRow.id, WebhookRow.job_id, JobRow.generation).join(
            JobRow, JobRow.id == WebhookRow.job_id
        )
        wanted = wanted.where(_WAITING, JobRow.finished_at.is_not(None), JobRow.deleted_at.is_(None))
        with self._db.read() as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(wanted.limit(limit))]

    @retried
    def begin(self, webhook_id: str, generation: int, payload: str) -> None:
        """Begin to tell a job's end.

        Args:
            webhook_id: Where.
            generation: Of the job, so that its next end is told too.
            payload: What is told, as JSON.
        """
        message: dict[str, Any] = {"state": "pending", "generation": generation, "message_id": new_id()}
        message |= {"payload": payload, "attempts": 0, "next_at": now_ms(), "delivered_at": None}
        message |= {"last_status": None, "last_error": None}
        with self._db.write() as connection:
            connection.execute(update(WebhookRow).where(WebhookRow.id == webhook_id, _WAITING).values(message))

    def due(self, limit: int = 32, without: Collection[str] = ()) -> list[Webhook]:
        """Return messages whose next try is due, the longest overdue first.

        Args:
            limit: At most so many.
            without: Owners whose messages have to wait.
        """
        wanted = [_PENDING, WebhookRow.next_at <= statement_ms()]
        if without:
            wanted.append(WebhookRow.key_id.not_in(sorted(without)))
        return self._found(*wanted, limit=limit, order=WebhookRow.next_at)

    def overdue(self) -> float:
        """Return for how many seconds the end has been due that was due first, of those not told yet; 0: there is none.

        Between two tries an end is not due: this tells of nobody who tells, and of more than are told in time.
        """
        due = select(func.min(WebhookRow.next_at)).where(_PENDING)
        # Whose job has ended, and nobody has begun with.
        job = JobRow.finished_at.is_not(None) & JobRow.deleted_at.is_(None)
        begun = select(func.min(JobRow.finished_at)).join(WebhookRow, WebhookRow.job_id == JobRow.id)
        with self._db.read() as connection:
            now = int(connection.execute(select(statement_ms())).scalar_one())
            first = [connection.execute(one).scalar_one() for one in (due, begun.where(_WAITING, job))]
        return max([0.0, *((now - int(moment)) / 1000 for moment in first if moment is not None)])

    def delivered(self, webhook: Webhook, status: int) -> None:
        """Note that a message was answered well."""
        values = {"state": "delivered", "delivered_at": now_ms(), "next_at": None, "last_error": None}
        if self._note(webhook, values | {"last_status": status}):
            count_at_once(self._db, "webhooks_delivered")

    def missed(self, webhook: Webhook, status: int | None, error: str, again_in: float | None) -> None:
        """Note that a try failed.

        Args:
            webhook: As it was when the try began.
            status: What was answered, or None.
            error: Why it failed, in words of ours.
            again_in: Seconds until the next try; None: that was the last.
        """
        following: dict[str, Any] = {"state": "failed", "next_at": None}
        if again_in is not None:
            following = {"next_at": now_ms() + int(again_in * 1000)}
        if self._note(webhook, following | {"last_status": status, "last_error": error}):
            count_at_once(self._db, "webhooks_failed", *(["webhooks_given_up"] if again_in is None else []))

    def tidy(self) -> None:
        """Have the ends of jobs that were sent round again told too, and forget the webhooks of jobs that are gone."""
        job = select(JobRow.id).where(JobRow.id == WebhookRow.job_id)
        told = WebhookRow.state.in_(["delivered", "failed"])
        again = told & job.where(JobRow.generation > WebhookRow.generation).exists()
        self._each(update(WebhookRow).values(state="waiting", next_at=None), again)
        self._each(delete(WebhookRow), ~job.exists())

    def _each(self, change: Any, which: ColumnElement[bool]) -> None:
        """Change some webhooks, a few at a time: all are looked through for them, and meanwhile others write."""
        while True:
            with self._db.read() as connection:
                found = list(connection.execute(select(WebhookRow.id).where(which).limit(_TIDIED_AT_ONCE)).scalars())
            if found:
                self._change(change.where(WebhookRow.id.in_(found), which))
            if len(found) < _TIDIED_AT_ONCE:
                return

    @retried
    def _change(self, statement: Any) -> None:
        with self._db.write(durable=False) as connection:
            connection.execute(statement)

    def rotate(self, key_id: str) -> str:
        """Make a new secret for the webhooks of one owner's jobs and return it; the old one signs for a day yet."""
        try:
            return self._rotate(key_id)
        except IntegrityError:
            # Another process has made the first in the same moment: this one follows it.
            return self._rotate(key_id)

    @retried
    def _rotate(self, key_id: str) -> str:
        made = _new_secret()
        mine = WebhookSecretRow.key_id == key_id
        with self._db.write() as connection:
            values = {"previous": WebhookSecretRow.secret, "secret": made, "rotated_at": now_ms()}
            if not connection.execute(update(WebhookSecretRow).where(mine).values(values)).rowcount:
                row = {"key_id": key_id, "secret": made, "rotated_at": now_ms()}
                connection.execute(insert(WebhookSecretRow).values(row))
        return made

    def secrets(self, key_id: str) -> list[str]:
        """Return what the messages of one owner are signed with now: one secret, or two for a day after a change."""
        fresh = (WebhookSecretRow.rotated_at > now_ms() - _BOTH).label("fresh")
        wanted = select(WebhookSecretRow.secret, WebhookSecretRow.previous, fresh)
        with self._db.read() as connection:
            row = connection.execute(wanted.where(WebhookSecretRow.key_id == key_id)).first()
        if row is None:
            # Signed even before anybody asked for the secret.
            return [self.rotate(key_id)]
        return [row.secret, row.previous] if row.previous and row.fresh else [row.secret]

    def _found(self, *conditions: Any, limit: int, order: Any) -> list[Webhook]:
        columns = [getattr(WebhookRow, name) for name in Webhook.__dataclass_fields__]
        wanted = select(*columns).where(*conditions).order_by(order).limit(limit)
        with self._db.read() as connection:
            return [Webhook(**row._mapping) for row in connection.execute(wanted)]

    @retried
    def _note(self, webhook: Webhook, values: dict[str, Any]) -> bool:
        # Guarded: of two that both believe to lead, the later must not undo what the earlier has noted.
        message = (WebhookRow.id == webhook.id, WebhookRow.message_id == webhook.message_id)
        same = (*message, _PENDING, WebhookRow.attempts == webhook.attempts)
        with self._db.write() as connection:
            tried = values | {"attempts": webhook.attempts + 1}
            return connection.execute(update(WebhookRow).where(*same).values(tried)).rowcount == 1


def _new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
