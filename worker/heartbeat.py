"""A worker process's pulse: extends its leases, and ends the process when it has come to rest, alive."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence

from storage import counters
from storage.attempts import AttemptKey
from storage.contract.errors import ServerError
from storage.pulses import Pulse
from storage.stores import Stores
from worker.watches import Watch

logger = logging.getLogger(__name__)

#: How often leases are extended, in seconds; a lease lasts through several that fail.
INTERVAL = 5.0

#: How often counters are added up and watches asked, in seconds.
_WATCH = 1.0

#: A sleep that lasts so much longer than asked was no sleep, in seconds: the whole machine stood still.
_STOOD_STILL = 5.0

#: What stood still gets so long to show that it goes on, in seconds.
_AWAKENS = 30.0


class Heartbeat:
    """Beats in a thread until the process ends.

    Args:
        stores: Where leases are extended and counters kept.
        worker_id: Whose.
        held: Returns the attempts that are being worked on.
        sign_on: Registers the process again if it was forgotten; without that nothing would ever be sent to it.
        watches: Asked before each beat whether the process must end.
        interval: Seconds between two beats.
        end: Ends the process with an exit code; the supervisor then gives back what it held.
        pulse: Returns how the process is, at once, which is told with each beat; None while nothing is known.
        beaten: Called after each round, whatever came of it: it did not hang.
    """

    def __init__(
        self,
        stores: Stores,
        worker_id: str,
        held: Callable[[], Collection[AttemptKey]],
        sign_on: Callable[[], None],
        watches: Sequence[Watch],
        interval: float = INTERVAL,
        end: Callable[[int], None] = os._exit,
        pulse: Callable[[], Pulse | None] = lambda: None,
        beaten: Callable[[], None] = lambda: None,
    ) -> None:
        self._stores = stores
        self._worker_id = worker_id
        self._held = held
        self._sign_on = sign_on
        self._watches = watches
        self._interval = interval
        self._end = end
        self._pulse = pulse
        self._beaten = beaten

    def start(self) -> None:
        """Begin to beat."""
        threading.Thread(target=self._beat_for_ever, name="heartbeat", daemon=True).start()

    def _beat_for_ever(self) -> None:
        due = time.monotonic() + self._interval
        awake = 0.0
        while True:
            if _sleep(min(_WATCH, self._interval)) > _STOOD_STILL and time.monotonic() > awake + _AWAKENS:
                # Clocks went on, and work did not: by them it would be held to hang. Not on end, lest a machine that
                # swaps is never looked at.
                awake = time.monotonic() + _AWAKENS
            # Apart: what is only watched or counted must not keep the leases from being extended, nor the reverse; and
            # adding up waits for nobody.
            if time.monotonic() >= due:
                due = time.monotonic() + self._interval
                self._attempt(self.beat)
            self._attempt(self.watch if time.monotonic() >= awake else self._stores.counters.flush)
            self._beaten()

    def watch(self) -> None:
        """End the process if it has come to rest; add up what was counted."""
        for watch in self._watches:
            ending = watch()
            if ending is not None:
                logger.error("%s: ending this process", ending.why)
                counters.count(ending.counter)
                self._attempt(self._stores.counters.flush)
                self._end(ending.code)
        self._attempt(self._stores.counters.flush)

    def beat(self) -> None:
        """Extend the leases once."""
        try:
            self._stores.leases.heartbeat(self._worker_id, self._held(), self._pulse())
            self._sign_on()
        except ServerError as error:
            logger.warning("heartbeat failed: %s", error)

    @staticmethod
    def _attempt(duty: Callable[[], None]) -> None:
        try:
            duty()
        except ServerError:
            # Told by the beat; what could not be added up now is added up later.
            pass
        except Exception:
            logger.exception("heartbeat failed")


def _sleep(seconds: float) -> float:
    """Sleep; return by how many seconds it was too long."""
    begin = time.monotonic()
    time.sleep(seconds)
    return time.monotonic() - begin - seconds
