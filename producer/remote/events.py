"""A job's events as they come over HTTP (server-sent events): where it stands, whenever that has changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import httpx

from producer.remote.connection import Connection
from producer.remote.values import status_of
from storage.jobstatus import JobStatus


@contextmanager
def listening(connection: Connection, job_id: str, silence: float) -> Iterator[Iterator[JobStatus | None]]:
    """Hand out the statuses of a job as they come, and None for each heartbeat.

    Args:
        connection: Leads to the service.
        job_id: The job.
        silence: Longest time in which not even a heartbeat comes, in seconds.

    Raises:
        EmbedmillError: What the service says.
        httpx.TransportError: When the connection breaks, or nothing comes.
    """
    headers = {"Accept": "text/event-stream"}
    with connection.stream(f"/v1/jobs/{job_id}/events", silence, headers=headers) as response:
        yield _statuses(response)


def _statuses(response: httpx.Response) -> Iterator[JobStatus | None]:
    for event, data in parsed(response.iter_lines()):
        if not event:
            yield None
        elif event in ("status", "end") and data:
            told = json.loads(data)
            if isinstance(told, dict) and "state" in told:
                yield status_of(told)


def parsed(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield name and data of each event; of a comment, which is a heartbeat, both are empty.

    Args:
        lines: Without their ends.
    """
    event = ""
    data: list[str] = []
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield event or "message", "\n".join(data)
            event, data = "", []
        elif not field:
            yield "", ""
        elif field == "event":
            event = value
        elif field == "data":
            data.append(value)
