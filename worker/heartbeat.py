"""A worker process's pulse: extends its leases, and ends the process when it has come to rest, alive."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from storage.contract.errors import ServerError
from storage.leases import LeaseStore
from worker import exits
from worker.starvation import Starvation

logger = logging.getLogger(__name__)

#: How often leases are extended, in seconds; a lease lasts through several that fail.
INTERVAL = 5.0

#: An engine that has work and finishes no batch for so long hangs, in seconds.
STALL = 120.0


class Heartbeat:
    """Beats in a thread until the process ends.

    Args:
        leases: Where leases are extended.
        worker_id: Whose.
        interval: Seconds between two beats.
        progress: Returns when the engine last finished a batch, on `time.monotonic`'s clock.
        starvation: Tells when messages are not taken.
        sign_on: Registers the process again if it was forgotten; without that nothing would ever be sent to it.
        end: Ends the process with an exit code; the supervisor then gives back what it held.
    """

    def __init__(
        self,
        leases: LeaseStore,
        worker_id: str,
        interval: float,
        progress: Callable[[], float],
        starvation: Starvation,
        sign_on: Callable[[], None],
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._leases = leases
        self._worker_id = worker_id
        self._interval = interval
        self._progress = progress
        self._starvation = starvation
        self._sign_on = sign_on
        self._end = end

    def start(self) -> None:
        """Begin to beat."""
        threading.Thread(target=self._beat_for_ever, name="heartbeat", daemon=True).start()

    def _beat_for_ever(self) -> None:
        while True:
            time.sleep(self._interval)
            try:
                self.beat()
            except Exception:
                # Whatever it was, the next beat must come: without one the leases run out.
                logger.exception("heartbeat failed")

    def beat(self) -> None:
        """Beat once."""
        if time.monotonic() - self._progress() > STALL:
            logger.error("the engine has made no progress for %.0f s: ending this process", STALL)
            self._end(exits.STALLED)
        if self._starvation.found():
            logger.error("messages wait and this idle process takes none: ending it")
            self._end(exits.STALLED)
        try:
            self._leases.heartbeat(self._worker_id)
            self._sign_on()
        except ServerError as error:
            logger.warning("heartbeat failed: %s", error)
