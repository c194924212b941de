"""Tells what comes again and again now and then: a line a second hides the one that says why."""

from __future__ import annotations

import logging
import time

#: What was told is told again after so many seconds, with how often it came meanwhile.
_EVERY = 60.0


class Sparing:
    """Warnings of one process, each sentence at most once a minute.

    Args:
        logger: Where they are told.
        every: Seconds between two times that the same is told.
    """

    def __init__(self, logger: logging.Logger, every: float = _EVERY) -> None:
        self._logger = logger
        self._every = every
        #: When each sentence was told last, and how often it has come since.
        self._told: dict[str, tuple[float, int]] = {}

    def warning(self, sentence: str) -> None:
        """Tell it, unless it was told in the last minute."""
        now = time.monotonic()
        told, times = self._told.get(sentence, (None, 0))
        if told is not None and now - told < self._every:
            self._told[sentence] = (told, times + 1)
            return
        # Only what still comes is kept.
        self._told = {one: (at, n) for one, (at, n) in self._told.items() if now - at < 2 * self._every}
        self._told[sentence] = (now, 0)
        self._logger.warning("%s%s", sentence, f" ({times + 1} times since this was told last)" if times else "")
