"""Room for answers that hold the states of tokens: how large one may be, and how many there may be at a time."""

from __future__ import annotations

import threading

from storage.contract.errors import Overloaded

#: Most numbers of one answer: 64 MiB as they are kept, about three times as much as JSON.
MOST_NUMBERS = 16 * 1024 * 1024

#: Most numbers of all answers that are made or sent at the same time.
_MOST_AT_ONCE = 4 * MOST_NUMBERS

#: Seconds after which a call may be sent again that found no room.
_RETRY = 2


class StatesRoom:
    """The memory that answers take which are being made or sent; used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = 0

    def take(self, numbers: int) -> None:
        """Take room for an answer.

        Args:
            numbers: How many it holds.

        Raises:
            Overloaded: When there is none now.
        """
        with self._lock:
            if self._taken + numbers > _MOST_AT_ONCE:
                raise Overloaded(
                    "Other large answers are being made or sent.", "Send it again in a moment, or fewer inputs.", _RETRY
                )
            self._taken += numbers

    def leave(self, numbers: int) -> None:
        """Give room back, once the answer was sent or will not be."""
        with self._lock:
            self._taken -= numbers
