"""Overviews by HTTP."""

from __future__ import annotations

import time
from typing import Any

from producer.overview import Overview, QueueLine, WorkerLine, shown
from producer.remote.connection import Connection
from producer.remote.values import PAGE, status_of
from storage.contract.errors import InvalidOption
from storage.contract.settings import Settings
from storage.jobstatus import JobStatus
from storage.pulses import Pulse

_WORKERS: dict[str, type] = {"models": list, "workers": list, "queued": dict}


class HttpOverviews:
    """Asks the service; what it tells is what the key may see.

    Args:
        settings: Name it, and the key.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.url is None:
            raise InvalidOption("There is no url of a service.", "Give one with --url, or set EMBEDMILL_URL.")
        key = settings.api_key.get_secret_value() if settings.api_key is not None else None
        self._connection = Connection(settings.url, key, retry_for=0)
        self.where = self._connection.place

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def look(self, jobs: int) -> Overview:
        """Return how all stands now.

        Args:
            jobs: At most so many of them.
        """
        begun = time.perf_counter()
        told = self._connection.told("GET", "/v1/workers", _WORKERS)
        queues = [
            QueueLine(
                one["name"],
                one["precision"],
                one["workers"],
                one["queued"]["texts"],
                one["queued"]["tokens"],
                one.get("oldest_seconds"),
                one["tokens_per_second"],
            )
            for one in told["models"]
        ]
        texts, tokens = (_beyond(told, of) for of in ("texts", "tokens"))
        if texts:
            queues.append(QueueLine("", "", 0, texts, tokens, None, 0.0))
        workers = [
            WorkerLine(
                one["device"],
                one["host"],
                one["pid"],
                one["model"],
                one["jobs"],
                one["in_hand"]["texts"],
                one["in_hand"]["tokens"],
                one["up_seconds"],
                one["seen_seconds"],
                one.get("version"),
                _pulse(one),
            )
            for one in told["workers"]
        ]
        found = self._jobs(jobs)
        return Overview([queue for queue in queues if shown(queue)], workers, found, time.perf_counter() - begun)

    def _jobs(self, most: int) -> list[JobStatus]:
        found: dict[str, JobStatus] = {}
        for states in ({"state": "accepting,queued,running"}, {}):
            if len(found) < most:
                asked = {"limit": min(100, most), **states}
                page = self._connection.told("GET", "/v1/jobs", PAGE, params=asked)
                for status in map(status_of, page["data"]):
                    found.setdefault(status.id, status)
        return list(found.values())[:most]


def _pulse(one: dict[str, Any]) -> Pulse:
    """Return how a worker is; a service of the version before does not tell."""
    memory = (one.get(name) for name in ("memory_bytes", "gpu_memory_bytes", "gpu_memory_total_bytes"))
    return Pulse(one.get("tokens_per_second"), one.get("batch_fill"), one.get("padding_share"), *memory)


def _beyond(told: dict[str, Any], of: str) -> int:
    """Return what waits for models that no worker has ever been known for."""
    return int(told["queued"][of] - sum(one["queued"][of] for one in told["models"]))
