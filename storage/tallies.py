"""What waits and what was done, added up by model."""

from __future__ import annotations

from collections import Counter

from storage.contract.states import JobState
from storage.loads import Load
from storage.statuses import Look


class Tally:
    """Adds up what waits and what was done, by model id; an empty one is of jobs that no worker was ever known for.

    Args:
        now: The moment, in milliseconds since 1970.
        window: What was done in the last so many milliseconds makes a rate.
    """

    def __init__(self, now: int, window: int) -> None:
        self._now = now
        self._window = window
        self.queued: dict[str, Load] = {}
        self._oldest: dict[str, int] = {}
        self._done: Counter[str] = Counter()
        self._began: dict[str, int] = {}

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

    def was_done(self, model_id: str | None, tokens: int, began: int) -> None:
        """Add what was done in the window.

        Args:
            model_id: Of which model.
            tokens: Tokens that were read.
            began: When the first job of it began.
        """
        of = model_id or ""
        self._done[of] += tokens
        self._began[of] = min(self._began.get(of, began), began)

    def add(self, look: Look) -> None:
        """Add what waits of a job that is open, and what was done of it."""
        if look.chunks and look.status.state in (JobState.QUEUED, JobState.RUNNING):
            self.waits(look.model_id, Load(look.chunks, look.status.pending, look.tokens), look.created)
        if look.recent:
            self.was_done(look.model_id, look.recent, look.began or 0)

    def rates(self) -> dict[str, float]:
        """Return tokens a second by model id."""
        return {of: self._rate(tokens, self._began[of]) for of, tokens in self._done.items()}

    def oldest(self) -> dict[str, float]:
        """Return how long ago the oldest job was accepted, in seconds, by model id."""
        return {of: max(0, self._now - created) / 1000 for of, created in self._oldest.items()}

    def _rate(self, tokens: int, began: int) -> float:
        # Work that began a second ago is not thinned out over half a minute.
        return round(1000 * tokens / min(self._window, max(1_000, self._now - began)), 1)
