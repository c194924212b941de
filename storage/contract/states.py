"""States of jobs and chunks, and the only moves allowed between them."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands; `completed` means that every item has a vector or an error."""

    ACCEPTING = "accepting"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class ChunkState(StrEnum):
    """Where a chunk stands; only `leased` chunks are being worked on."""

    PENDING = "pending"
    DISPATCHED = "dispatched"
    LEASED = "leased"
    DONE = "done"
    CANCELLED = "cancelled"
    SPLIT = "split"


JOB_MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.ACCEPTING: frozenset({JobState.QUEUED}),
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}),
    JobState.RUNNING: frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}),
    JobState.COMPLETED: frozenset({JobState.QUEUED}),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
}

CHUNK_MOVES: dict[ChunkState, frozenset[ChunkState]] = {
    ChunkState.PENDING: frozenset({ChunkState.DISPATCHED, ChunkState.LEASED, ChunkState.CANCELLED}),
    ChunkState.DISPATCHED: frozenset({ChunkState.PENDING, ChunkState.LEASED, ChunkState.CANCELLED}),
    ChunkState.LEASED: frozenset({ChunkState.PENDING, ChunkState.DONE, ChunkState.CANCELLED, ChunkState.SPLIT}),
    ChunkState.DONE: frozenset({ChunkState.PENDING}),
    ChunkState.CANCELLED: frozenset(),
    ChunkState.SPLIT: frozenset(),
}

FINAL_JOB_STATES = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})
OPEN_CHUNK_STATES = frozenset({ChunkState.PENDING, ChunkState.DISPATCHED, ChunkState.LEASED})
