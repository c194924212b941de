"""Where a job stands: a plain value, for whoever asks storage and for whoever asks over HTTP."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from storage.contract.states import FINAL_JOB_STATES, JobState


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job's state and counts at one moment; `succeeded + failed + cancelled + pending = total`, always.

    Args:
        truncated: Items with a vector whose text was cut.
        tokens: Tokens the encoder has read for this job.
        tokens_per_second: Of the last 30 s while it runs, of the whole run afterwards; None before anything is done.
        eta_seconds: Seconds that are left at that rate, or None when that cannot be told.
        created_at: ISO 8601 in UTC, as `started_at` and `finished_at`.
        error: Code and message when the job as a whole failed, else None.
        waiting_for: What the job waits for and what to do about it, or None.
        keep_days: Days that it is kept after its end; None: until it is deleted.
        keep_texts_days: The same for its texts; None: as long as the job.
        kept_until: When it goes, once it has ended; None: when it is deleted.
        texts_kept_until: When its texts go, or went.
        name: What a person calls it, or None.
        labels: Words of the caller's own, by their names.
    """

    id: str
    state: str
    model: str
    total: int
    succeeded: int
    failed: int
    cancelled: int
    pending: int
    truncated: int
    tokens: int
    tokens_per_second: float | None
    eta_seconds: float | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    error: dict[str, Any] | None
    waiting_for: str | None
    keep_days: float | None = None
    keep_texts_days: float | None = None
    kept_until: str | None = None
    texts_kept_until: str | None = None
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return JobState(self.state) in FINAL_JOB_STATES

    def to_dict(self) -> dict[str, Any]:
        """Return the status as a JSON object."""
        return asdict(self)
