"""One attempt at a chunk: the claim that a worker holds, and the texts it gets for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from storage.contract.models import Priority
from storage.outcomes import ItemError

#: Job, chunk and token: names one attempt.
AttemptKey = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to one chunk, with what is needed to embed it.

    Args:
        job_id: The job.
        number: The chunk's number.
        token: The fencing token that the commit must show.
        size: Number of items.
        options: The job's options as a JSON object.
        priority: The job's priority.
        failures: How many attempts at it failed for reasons nobody foresaw.
        alone: Whether it is suspected of killing processes, so that nothing else may run beside it.
        claims: How often it was claimed, this time too.
        crashes: How many processes died with it.
        waited: Milliseconds since it was last sent, or since its job was accepted, by the database's clock.
        owner: The id of the start of the process that holds it.
    """

    job_id: str
    number: int
    token: int
    size: int
    options: dict[str, Any]
    priority: Priority
    failures: int = 0
    alone: bool = False
    claims: int = 1
    crashes: int = 0
    waited: int = 0
    owner: str = ""

    @classmethod
    def of(cls, row: Any, job: Any, priority: Priority, owner: str) -> Claim:
        """Return the claim of a chunk's row.

        Args:
            row: The chunk, just leased.
            job: Its job's row.
            priority: The job's priority.
            owner: Who has leased it.
        """
        waited = max(0, int(row.now - (row.dispatched_at or job.touched_at)))
        attempts = (row.failures, row.crashes > 0, row.claims, row.crashes, waited, owner)
        return cls(row.job_id, row.number, row.token, row.size, _read(job.options), priority, *attempts)

    @property
    def key(self) -> AttemptKey:
        """Job, chunk and token: names this attempt."""
        return (self.job_id, self.number, self.token)


@dataclass(frozen=True, slots=True)
class ChunkInput:
    """The texts of a claimed chunk, and what is known of them already.

    Args:
        texts: One an item; empty where the item is invalid.
        settled: Errors that stand, by position: those of invalid items.
        kept: Result row of an earlier round whose vectors are kept (`retry`), or None.
    """

    texts: list[str]
    settled: dict[int, ItemError]
    kept: Any | None


def _read(options: str) -> dict[str, Any]:
    """Return a job's options; where they cannot be read, some that end the job as soon as they are looked at."""
    try:
        return dict(json.loads(options))
    except (TypeError, ValueError):
        return {"(the options of this job cannot be read)": None}
