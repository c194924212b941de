"""Workers and reconcilers as threads over real stores: hundreds of races a second, with messages that get lost."""

from __future__ import annotations

import queue
import random
import time
from collections import Counter
from collections.abc import Sequence

from storage.attempts import AttemptKey
from storage.contract.messages import Pointer
from storage.stores import Stores
from tests.storage.builders import CARD, result, serve


class Messages:
    """A queue that loses some of what it is given; stands for Redis."""

    def __init__(self, lost: float) -> None:
        self._lost = lost
        self._queue: queue.Queue[Pointer] = queue.Queue()

    def send(self, pointers: Sequence[Pointer], name: str) -> None:
        """Take messages, but for those that are lost."""
        for pointer in pointers:
            if random.random() >= self._lost:
                self._queue.put(pointer)

    def take(self) -> Pointer | None:
        """Return a message, or None when none comes for a moment."""
        try:
            return self._queue.get(timeout=0.02)
        except queue.Empty:
            return None


class StressedWorker:
    """Claims, takes about as long as a lease lasts, and commits; says which of its attempts were written.

    Args:
        stores: Its own connection.
        lease: How long a lease lasts, in seconds.
    """

    def __init__(self, stores: Stores, lease: float) -> None:
        self.written: Counter[AttemptKey] = Counter()
        self.late = 0
        self._stores = stores
        self._lease = lease
        self._id = serve(stores)

    def answer(self, pointer: Pointer) -> None:
        """Do what a message asks for; its lease is not extended, but the worker is alive."""
        self._stores.leases.heartbeat(self._id, ())
        claims = self._stores.leases.claim(pointer, self._id, CARD.id, random.choice([0, 60]))
        if not claims:
            return
        time.sleep(random.random() * 1.5 * self._lease)
        written, _ = self._stores.leases.commit([(one, result(value=float(one.number + 1))) for one in claims])
        self.written.update(written)
        self.late += len(claims) - len(written)
