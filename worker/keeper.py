"""The reconciler's housekeeping: what is to go goes in small steps, and what must hold is looked at page by page."""

from __future__ import annotations

import logging
import time
from collections import Counter

from storage import counters
from storage.contract.errors import ServerError
from storage.invariants import START
from storage.purges import MARKED_AT_ONCE
from storage.stores import Stores

logger = logging.getLogger(__name__)

#: A job whose submission has been silent for so long is thrown away, in milliseconds: its producer is gone.
ABANDONED_AFTER = 24 * 3600 * 1000

#: Seconds between two looks for jobs and workers that should go.
_LOOK_EVERY = 60.0

#: Most seconds that one turn removes rows: what is waiting to be sent is sent between two turns.
_TURN = 0.2

_DAY = 24 * 3600 * 1000


class Keeper:
    """Does a little each time it is asked.

    Args:
        stores: The truth.
        keep_days: Days that an ended job is kept; None: until it is deleted.
    """

    def __init__(self, stores: Stores, keep_days: float | None) -> None:
        self._stores = stores
        self._keep = None if keep_days is None else int(keep_days * _DAY)
        self._looked = -_LOOK_EVERY
        self._place = START
        self._round: Counter[str] = Counter()

    def purge(self) -> None:
        """Mark what should go, once a minute; remove some of what is marked."""
        if time.monotonic() - self._looked >= _LOOK_EVERY:
            self._stores.workers.forget_gone()
            # Where there is more than one look takes, the next one follows at once.
            if self._stores.purges.mark(ABANDONED_AFTER, self._keep) < MARKED_AT_ONCE:
                self._looked = time.monotonic()
        deadline = time.monotonic() + _TURN
        for job_id in self._stores.purges.marked():
            try:
                while not self._stores.purges.step(job_id):
                    if time.monotonic() > deadline:
                        return
            except ServerError:
                raise
            except Exception:
                # One that cannot be removed must not keep the others.
                counters.count("sweeps_failed")
                logger.exception("job %s cannot be removed", job_id)
            if time.monotonic() > deadline:
                return

    def check(self) -> None:
        """Look at the next page of chunks; what is found is counted, and told once a round."""
        findings = self._stores.invariants.check(self._place)
        for name, times in findings.broken.items():
            counters.count("invariants_broken", times)
            if name not in self._round:
                logger.error("%d rows that must not be: %s, near job %s", times, name, self._place[0])
            self._round[name] += times
        self._place = findings.next or START
        if findings.next is None:
            self._round.clear()
