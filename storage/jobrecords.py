"""What a job was submitted with, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select

from storage.contract.models import Priority
from storage.contract.states import JobState
from storage.tables import JobRow


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What a job was submitted with.

    Args:
        id: UUIDv7.
        state: Where it stands.
        model: Name of the model asked for.
        revision: Revision asked for, or None.
        model_id: The model identity it is bound to, or None before any worker has registered the model.
        priority: Which queue it waits in.
        options: Its options as a JSON object.
        total: Number of items; 0 until sealed.
        has_ids: Whether its items have callers' ids.
        generation: How often `retry` sent it round again.
        payload_hash: Hash of options, texts and ids, for the idempotency key.
        key_id: Whose job it is; empty where no API key was used.
        kind: `job`, `call` or `batch`; see `NewJob`.
        name: What a person calls it, or None.
        labels: Words of the caller's own, or None.
    """

    id: str
    state: JobState
    model: str
    revision: str | None
    model_id: str | None
    priority: Priority
    options: dict[str, Any]
    total: int
    has_ids: bool
    generation: int
    payload_hash: str | None
    key_id: str = ""
    kind: str = "job"
    name: str | None = None
    labels: dict[str, str] | None = None


#: The records of all jobs that are not being deleted, and of the one of an id; put together once.
RECORDS = select(
    JobRow.id,
    JobRow.state,
    JobRow.model,
    JobRow.revision,
    JobRow.model_id,
    JobRow.priority,
    JobRow.options,
    JobRow.total,
    JobRow.has_ids,
    JobRow.generation,
    JobRow.payload_hash,
    JobRow.key_id,
    JobRow.kind,
    JobRow.name,
    JobRow.labels,
).where(JobRow.deleted_at.is_(None))
RECORD_OF = RECORDS.where(JobRow.id == bindparam("job"))


def record_of(row: Any) -> JobRecord:
    """Return the record in a row of `RECORDS`."""
    fields = dict(row._mapping)
    fields |= {"state": JobState(row.state), "priority": Priority(row.priority)}
    return JobRecord(**fields)
