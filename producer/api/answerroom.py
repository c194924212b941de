"""Room for answers that take much memory: how large one may be, and how many there may be at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from storage.contract.errors import Overloaded

#: Most numbers of one answer that holds states of tokens: 64 MiB as they are kept, about three times as much as JSON;
#: and of all such answers that are made or sent at the same time.
MOST_NUMBERS = 16 * 1024 * 1024
MOST_NUMBERS_AT_ONCE = 4 * MOST_NUMBERS

#: Bytes of text of which tokens are made without asking for room: what is small is never refused for what is large.
FREE_TEXT = 10_000

#: Seconds after which a call may be sent again that found no room.
_RETRY = 2


class AnswerRoom:
    """The memory that answers take which are being made or sent; used by several threads.

    Args:
        most: How much there is, in whatever is counted.
        free: What needs none.
    """

    def __init__(self, most: int, free: int = 0) -> None:
        self._most = most
        self._free = free
        self._lock = threading.Lock()
        self._taken = 0

    def take(self, size: int) -> None:
        """Take room for an answer.

        Args:
            size: How much.

        Raises:
            Overloaded: When there is none now.
        """
        with self._lock:
            if self._taken + size > self._most:
                raise Overloaded(
                    "Other large answers are being made or sent.", "Send it again in a moment, or fewer inputs.", _RETRY
                )
            self._taken += size

    def leave(self, size: int) -> None:
        """Give room back, once the answer was sent or will not be."""
        with self._lock:
            self._taken -= size

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Hold room until the end of the block; what is larger than all of it is let in alone, to be refused in words.

        Args:
            size: How much.

        Raises:
            Overloaded: When there is none now.
        """
        taken = 0 if size <= self._free else min(size, self._most)
        self.take(taken)
        try:
            yield
        finally:
            self.leave(taken)
