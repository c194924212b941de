"""Places that several keys share, so that none of them keeps the others from theirs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from storage.contract.errors import Overloaded


class Shares:
    """So many places; a key may hold no more of them than are free, so that one alone never gets more than half.

    However many keys take what they may, the next one finds a place, until there is none at all. Without keys there is
    nobody to share with. Used by several threads.

    Args:
        most: How many places there are.
        full: What is said when all are taken, and what to do; with seconds after which to come again.
    """

    def __init__(self, most: int, full: tuple[str, str, float]) -> None:
        self._most = most
        self._full = full
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        #: How many places are taken.
        self.taken = 0

    @property
    def is_crowded(self) -> bool:
        """Whether more than half of the places are taken."""
        return self.taken > self._most // 2

    def check(self, key_id: str) -> None:
        """Refuse a key one place too many.

        Args:
            key_id: The key's id; empty where no keys are used.

        Raises:
            Overloaded: When there is none for it now.
        """
        message, remedy, retry = self._full
        free, held = self._most - self.taken, self._held[key_id]
        if free <= 0:
            raise Overloaded(message, remedy, retry)
        if key_id and held >= free:
            raise Overloaded(f"This API key has {held} of {self._most} places, as many as are left.", remedy, retry)

    def take(self, key_id: str) -> None:
        """Take a place.

        Args:
            key_id: See `check`.

        Raises:
            Overloaded: See `check`.
        """
        with self._lock:
            self.check(key_id)
            self._held[key_id] += 1
            self.taken += 1

    def leave(self, key_id: str) -> None:
        """Give a place back.

        Args:
            key_id: Whose it was.
        """
        with self._lock:
            self._held[key_id] -= 1
            self.taken -= 1
            if not self._held[key_id]:
                del self._held[key_id]

    @contextmanager
    def place(self, key_id: str) -> Iterator[None]:
        """Hold a place until the end of the block.

        Args:
            key_id: See `check`.

        Raises:
            Overloaded: See `check`.
        """
        self.take(key_id)
        try:
            yield
        finally:
            self.leave(key_id)
