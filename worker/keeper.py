"""The reconciler's housekeeping: what is much goes in small steps, and what must hold is looked at page by page."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from storage import counters
from storage.invariants import START
from storage.purges import MARKED_AT_ONCE
from storage.stores import Stores
from worker.roundrobin import RoundRobin

logger = logging.getLogger(__name__)

#: A job whose submission has been silent for so long is thrown away, in milliseconds: its producer is gone.
ABANDONED_AFTER = 24 * 3600 * 1000

#: Seconds between two looks for jobs and workers that should go.
_LOOK_EVERY = 60.0

#: Most seconds that one turn removes rows: what is waiting to be sent is sent between two turns.
_TURN = 0.2

#: Most seconds that one turn goes on with jobs of very many chunks that have ended, or go round again.
_SETTLING = 1.0


class Keeper:
    """Does a little each time it is asked.

    Args:
        stores: The truth.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._jobs = RoundRobin(stores.purges.step, "removed")
        self._texts = RoundRobin(stores.purges.step_texts, "rid of its texts")
        self._ends = RoundRobin(_counted(stores.settling.step), "brought to its end")
        self._retries = RoundRobin(_counted(stores.retries.step), "sent round again")
        self._looked = -_LOOK_EVERY
        self._place = START
        self._round: Counter[str] = Counter()
        #: Whether there may be room to give back: asked once something was removed, and at the start.
        self._may_give = True

    def purge(self) -> None:
        """Mark what should go, once a minute; remove some of what is marked, and give its room back."""
        if time.monotonic() - self._looked >= _LOOK_EVERY:
            self._stores.workers.forget_gone()
            self._stores.services.forget_gone()
            # Where there is more than one look takes, the next one follows at once.
            if self._stores.purges.mark(ABANDONED_AFTER) < MARKED_AT_ONCE:
                self._looked = time.monotonic()
        purges, begin = self._stores.purges, time.monotonic()
        # Texts are to go a minute after their job's end, however much there is to remove of others.
        texts, no_texts = self._texts.turn(purges.marked_texts(), begin + _TURN / 2)
        rows, no_jobs = self._jobs.turn(purges.marked(), begin + _TURN)
        if no_jobs and not no_texts:
            more, no_texts = self._texts.turn(purges.marked_texts(), begin + _TURN)
            texts += more
        self._may_give = self._may_give or texts + rows > 0
        if no_texts and no_jobs:
            while self._may_give and time.monotonic() < begin + _TURN:
                self._may_give = self._stores.database.give_back()

    def settle(self) -> None:
        """Go on with the ends of jobs of very many chunks, and with retries of such.

        Whoever asked for it has done some of it, and may be gone.
        """
        self._ends.turn(self._stores.settling.unsettled(), time.monotonic() + _SETTLING)
        self._retries.turn(self._stores.retries.unretried(), time.monotonic() + _SETTLING)

    def check(self) -> None:
        """Look at the next page of chunks; what is found is counted, and told once a round."""
        findings = self._stores.invariants.check(self._place)
        if findings.error is not None:
            counters.count("sweeps_failed")
            logger.warning("rows that follow job %s could not be looked at: %s", self._place[0], findings.error)
        for name, times in findings.broken.items():
            counters.count("invariants_broken", times)
            if name not in self._round:
                logger.error("%d rows that must not be: %s, near job %s", times, name, self._place[0])
            self._round[name] += times
        self._place = findings.next or START
        if findings.next is None:
            self._round.clear()


def _counted(step: Callable[[str], bool]) -> Callable[[str, int], int | None]:
    """Return steps that know by themselves where they are, as `RoundRobin` does them."""
    return lambda job_id, done: done + 1 if step(job_id) else None
