"""Everything at one moment, as `embedmill top` shows it: queues, workers and jobs; over storage or over HTTP."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from storage.jobstatus import JobStatus
from storage.pulses import UNTOLD, Pulse


@dataclass(frozen=True, slots=True)
class QueueLine:
    """One model and what waits for it.

    Args:
        model: Its name; empty for jobs whose model no worker has ever been known for.
        precision: Its class of precision.
        workers: Live workers that serve it.
        texts: Texts without an outcome yet.
        tokens: Tokens in them, estimated.
        oldest_seconds: Age of the oldest job among them; None where nothing waits.
        tokens_per_second: Of the last 30 s.
    """

    model: str
    precision: str
    workers: int
    texts: int
    tokens: int
    oldest_seconds: float | None
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """One live worker process.

    Args:
        device: What it is pinned to.
        host: Where it runs.
        pid: Its process id there.
        model: What it serves.
        jobs: Of how many jobs it has texts in hand.
        texts: How many texts those are.
        tokens: Tokens in them, estimated.
        up_seconds: For how long it has been ready.
        seen_seconds: How long ago it was heard of.
        version: Of its program; None where it does not tell.
        pulse: How it was in its last half minute.
    """

    device: str
    host: str
    pid: int
    model: str
    jobs: int
    texts: int
    tokens: int
    up_seconds: float
    seen_seconds: float
    version: str | None = None
    pulse: Pulse = UNTOLD


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it.

    Args:
        queues: Models that are served, or that something waits for.
        workers: Live workers, by host and device.
        jobs: Unfinished jobs, newest first, then those that ended last.
        seconds: How long it took to ask.
        at: When that was, in seconds since 1970 on this machine's clock.
    """

    queues: list[QueueLine]
    workers: list[WorkerLine]
    jobs: list[JobStatus]
    seconds: float = 0.0
    at: float = field(default_factory=time.time)

    @property
    def tokens_per_second(self) -> float:
        """What all do together."""
        return sum(queue.tokens_per_second for queue in self.queues)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self) | {"tokens_per_second": self.tokens_per_second}


class Overviews(Protocol):
    """Whoever can be asked for an overview again and again."""

    where: str

    def look(self, jobs: int) -> Overview:
        """Return how all stands now, with at most so many jobs."""

    def close(self) -> None:
        """Close what is open."""


def shown(queue: QueueLine) -> bool:
    """Whether a model is worth a line: a worker serves it, or something waits for it."""
    return bool(queue.workers or queue.texts or queue.tokens_per_second)
