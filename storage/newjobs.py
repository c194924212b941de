"""A job on its way into storage, and the statement that opens it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, insert

from storage.arrivals import counts
from storage.contract.keeping import FOR_EVER, Keeping
from storage.contract.models import Priority
from storage.contract.states import JobState
from storage.database import now_ms
from storage.tables import JOBS
from storage.webhookrows import write_webhook


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job on its way into storage.

    Args:
        id: Its UUIDv7.
        model: Name of the model asked for.
        revision: Revision asked for, or None.
        model_id: The model identity, or None where no worker has ever registered the model.
        options: The job's options as a JSON object.
        priority: Which queue it waits in.
        has_ids: Whether its items have callers' ids.
        key_id: Whose job it is: what is under way is shared fairly between keys.
        expires_in: Seconds after which it ends, whatever is left to do; None: never.
        kind: `job`; or `call` for the texts of one request that somebody waits for, `batch` for a part of an OpenAI
            batch: those two are not listed among the jobs.
        name: What a person calls it, or None.
        labels: Words of the caller's own, or None.
        webhook: Address that its end is told to, as `checked_url` let it pass, or None.
        keeping: How long it is kept once it has ended; default: for ever.
    """

    id: str
    model: str
    revision: str | None
    model_id: str | None
    options: dict[str, Any]
    priority: Priority = Priority.BULK
    has_ids: bool = False
    key_id: str = ""
    expires_in: float | None = None
    kind: str = "job"
    name: str | None = None
    labels: dict[str, str] | None = None
    webhook: str | None = None
    keeping: Keeping = FOR_EVER

    def to_row(self) -> dict[str, Any]:
        """Return what `NEW_JOB` is run with, while the job takes texts."""
        life = None if self.expires_in is None else int(self.expires_in * 1000)
        asked = {name: getattr(self, name) for name in _ASKED}
        return asked | self.keeping.to_row() | _UNSEALED | {"life": life}


#: Columns of a job that are there from the start, and what the others are until it is sealed.
_ASKED = ("id", "model", "revision", "model_id", "options", "priority", "has_ids", "key_id", "kind", "name", "labels")
_KEEPING = tuple(FOR_EVER.to_row())
_UNSEALED: dict[str, Any] = {"state": JobState.ACCEPTING, "total": 0, "chunk_count": 0}
_UNSEALED |= {"payload_hash": None, "idempotency_key": None, **counts([])}


def open_job(connection: Connection, job: NewJob, **more: Any) -> None:
    """Write a job's row, and with it whom its end is told to, inside a running transaction.

    Args:
        connection: A write transaction.
        job: The job.
        **more: Columns that are known of it already.
    """
    connection.execute(NEW_JOB, job.to_row() | more)
    if job.webhook is not None:
        write_webhook(connection, job.id, job.key_id, job.webhook)


#: Opens a job; put together once.
NEW_JOB = insert(JOBS).values(
    {name: bindparam(name) for name in (*_ASKED, *_KEEPING, *_UNSEALED)}
    | {"created_at": now_ms(), "touched_at": now_ms(), "expires_at": now_ms() + bindparam("life", type_=BigInteger())}
)
