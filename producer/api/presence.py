"""Notes in the database that this process of the service is alive, and which program it runs."""

from __future__ import annotations

import logging
import os
import socket

from producer.api.rounds import Rounds
from storage.contract.errors import ServerError
from storage.contract.ids import new_id
from storage.stores import Stores

logger = logging.getLogger(__name__)

#: Pause between two notes, in seconds: few enough to cost nothing.
_INTERVAL = 15.0


class Presence:
    """Notes it again and again, in a thread; nothing waits for it.

    Args:
        stores: Where it is noted.
        interval: Seconds between two notes.
    """

    def __init__(self, stores: Stores, interval: float = _INTERVAL) -> None:
        self._stores = stores
        self._id = new_id()
        self._rounds = Rounds("presence", self._note, interval)

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def stop(self) -> None:
        """End, and take the note back."""
        self._rounds.stop()
        try:
            self._stores.services.leave(self._id)
        except ServerError as error:
            logger.debug("this process is forgotten by itself: %s", error)

    def _note(self) -> None:
        self._stores.services.note(self._id, socket.gethostname(), os.getpid())
