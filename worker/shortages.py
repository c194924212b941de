"""Tells messages that Redis has lost from those that are on their way between two looks."""

from __future__ import annotations

from collections import defaultdict, deque

#: Looks in a row at which messages must be missing.
LOOKS = 5


class Shortages:
    """Remembers, by model, what was missing at the last looks.

    How many messages are out and how many wait in Redis is read one after the other; one that was taken and not yet
    claimed, or marked as sent and not yet there, is missing at one look. At each of several it is lost.
    """

    def __init__(self) -> None:
        self._missing: dict[str, deque[int]] = defaultdict(lambda: deque(maxlen=LOOKS))

    def forget(self) -> None:
        """Begin anew: what was seen is too old, or another has seen to it."""
        self._missing.clear()

    def lasts(self, model_id: str, missing: int) -> bool:
        """Note a look; return whether messages were missing at each of the last ones, and begin anew then.

        Args:
            model_id: Whose messages.
            missing: How many more are out than wait.
        """
        seen = self._missing[model_id]
        seen.append(missing)
        if len(seen) < LOOKS or min(seen) <= 0:
            return False
        seen.clear()
        return True
