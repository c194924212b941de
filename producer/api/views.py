"""Jobs as our own routes show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from producer.api.auth import Caller, owned
from producer.api.service import Service
from producer.job import Job
from storage.entries import Entry
from storage.moments import iso
from storage.statuses import JobStatus


def found(service: Service, caller: Caller, job_id: str) -> Job:
    """Return a job that the caller may see.

    Raises:
        UnknownJob: When there is none of that id, or it is another's.
    """
    return owned(service.client.job(job_id), caller)


def status_view(service: Service, job_id: str, **more: Any) -> dict[str, Any]:
    """Return where a job stands, as JSON.

    Args:
        service: Finds it.
        job_id: Its id.
        **more: Further fields.

    Raises:
        UnknownJob: When there is none of that id.
    """
    return _view(service.stores.statuses.get(job_id), service.stores.entries.get(job_id)) | more


def status_views(service: Service, job_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return where several jobs stand, as JSON, leaving out those deleted meanwhile."""
    entries = service.stores.entries.many(job_ids)
    statuses = service.stores.statuses.many(job_ids)
    return [_view(status, entries[status.id]) for status in statuses if status.id in entries]


def _view(status: JobStatus, entry: Entry) -> dict[str, Any]:
    path = f"/v1/jobs/{status.id}"
    return status.to_dict() | {
        "generation": entry.generation,
        "queue_position": entry.queue_position,
        "expires_at": iso(entry.expires_at),
        "links": {"self": path, "results": f"{path}/results", "events": f"{path}/events"},
    }
