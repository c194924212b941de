"""The one message that travels through Redis: a pointer to a chunk, never a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from storage.contract.ids import is_id

MESSAGE_VERSION = 1

#: What a database's column holds; a forged message may claim more.
_LARGEST_CHUNK = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Pointer:
    """Says which chunk to look at; a lost, doubled or forged one costs time, never a text.

    Args:
        job_id: The job's UUIDv7.
        chunk: The chunk's number within its job, from 0.
    """

    job_id: str
    chunk: int

    def to_message(self) -> dict[str, Any]:
        """Return the JSON object that is sent."""
        return {"v": MESSAGE_VERSION, "job_id": self.job_id, "chunk": self.chunk}

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Pointer | None:
        """Return the pointer in `message`, or None when it is of a version or shape that this program does not know."""
        if message.get("v") != MESSAGE_VERSION:
            return None
        job_id, chunk = message.get("job_id"), message.get("chunk")
        if not isinstance(job_id, str) or not isinstance(chunk, int) or isinstance(chunk, bool):
            return None
        if not is_id(job_id) or not 0 <= chunk <= _LARGEST_CHUNK:
            return None
        return cls(job_id, chunk)
