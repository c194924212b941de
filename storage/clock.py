"""The database's clock, as this process can tell it without asking each time: hosts' own clocks are not to be trusted.

Whatever one host writes down and another one reads goes by it: ids, which sort by time, the ends of sessions, the
timestamps of webhooks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from storage.contract.errors import ServerError

#: How long what was asked counts, in seconds; two quartzes part by some milliseconds meanwhile.
_ASK_EVERY = 60.0


class Clock:
    """Tells the time; may be used by several threads.

    Args:
        ask: Returns the database's time in milliseconds since 1970.
    """

    def __init__(self, ask: Callable[[], int]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._asked: float | None = None
        #: What is to be added to `time.monotonic()`.
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Return the database's time in seconds since 1970; while it has never answered, this host's own."""
        before = time.monotonic()
        with self._lock:
            if self._asked is None or before - self._asked > _ASK_EVERY:
                # Whoever comes meanwhile goes by what was known; and a database that is away is not asked each time.
                self._asked = before
            else:
                return before + self._offset
        try:
            told = self._ask() / 1000
        except ServerError:
            return time.monotonic() + self._offset
        after = time.monotonic()
        with self._lock:
            self._offset = told - (before + after) / 2
        return after + self._offset
