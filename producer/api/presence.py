"""Notes in the database that this process of the service is alive, and which program it runs."""

from __future__ import annotations

import logging
import os
import socket
import threading

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
        self._interval = interval
        self._id = new_id()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and take the note back."""
        self._stopping.set()
        self._thread.join(5)
        try:
            self._stores.services.leave(self._id)
        except ServerError as error:
            logger.debug("this process is forgotten by itself: %s", error)

    def _run(self) -> None:
        while True:
            try:
                self._stores.services.note(self._id, socket.gethostname(), os.getpid())
            except ServerError as error:
                # `/readyz` says so.
                logger.debug("the database was not told of this process: %s", error)
            except Exception:
                logger.exception("the database was not told of this process")
            if self._stopping.wait(self._interval):
                return
