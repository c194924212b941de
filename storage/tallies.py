"""What waits, added up by model."""

from __future__ import annotations

from storage.contract.states import JobState
from storage.loads import Load
from storage.statuses import Look


class Tally:
    """Adds up what waits, by model id; an empty one is of jobs that no worker was ever known for.

    Args:
        now: The moment, in milliseconds since 1970.
    """

    def __init__(self, now: int) -> None:
        self._now = now
        self.queued: dict[str, Load] = {}
        self._oldest: dict[str, int] = {}

    def waits(self, model_id: str | None, load: Load, created: int) -> None:
        """Add work that waits or is in hand.

        Args:
            model_id: Of which model.
            load: How much.
            created: When the oldest job of it was accepted.
        """
        of = model_id or ""
        self.queued[of] = self.queued.get(of, Load()) + load
        self._oldest[of] = min(self._oldest.get(of, created), created)

    def add(self, look: Look) -> None:
        """Add what waits of a job that is open."""
        if look.chunks and look.status.state in (JobState.QUEUED, JobState.RUNNING):
            self.waits(look.model_id, Load(look.chunks, look.status.pending, look.tokens), look.created)

    def oldest(self) -> dict[str, float]:
        """Return how long ago the oldest job was accepted, in seconds, by model id."""
        return {of: max(0, self._now - created) / 1000 for of, created in self._oldest.items()}
