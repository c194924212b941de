"""What a supervisor has the database do, in a thread of its own: the loop over its processes waits for no server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from storage.contract.errors import ServerError
from storage.leaders import RECONCILE, LeaderStore
from storage.stores import Stores
from worker.child import Child
from worker.quarantine import Quarantine
from worker.sparing import Sparing

logger = logging.getLogger(__name__)

#: Pause between two rounds in which nobody has died, in seconds.
_PAUSE = 1.0


class Chores:
    """Gives back what dead processes held, judges slots, adds up counters.

    Args:
        stores: Where.
        quarantine: Judges the slots of `workers`.
        workers: The processes that do work.
    """

    def __init__(self, stores: Stores, quarantine: Quarantine, workers: Iterable[Child]) -> None:
        self._stores = stores
        self._quarantine = quarantine
        self._workers = workers
        self._leaders = LeaderStore(stores.database)
        #: Dead starts whose chunks are to be given back, of which process, and whether they died of them.
        self._dead: dict[str, tuple[Child, bool]] = {}
        self._resigned: list[str] = []
        self._due = threading.Event()
        self._over = False
        self._sparing = Sparing(logger)
        self._thread = threading.Thread(target=self._run, name="chores", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self, seconds: float) -> None:
        """Do what is still to be done, and wait so long for it at most."""
        self._over = True
        self._due.set()
        self._thread.join(seconds)

    def bury(self, child: Child, worker_id: str, charge: bool) -> None:
        """Have what a dead worker held be given back at once, instead of when its leases have run out.

        Args:
            child: Which process has died.
            worker_id: Which start of it.
            charge: Whether it died of what it held.
        """
        self._dead[worker_id] = child, charge
        self._due.set()

    def resign(self, leader_id: str) -> None:
        """Have the lead of a dead reconciler be given up, so that the next one need not wait for the end of its term.

        Args:
            leader_id: Which start of it has died.
        """
        self._resigned.append(leader_id)
        self._due.set()

    def _run(self) -> None:
        over = False
        while not over:
            self._due.wait(_PAUSE)
            self._due.clear()
            over = self._over
            for worker_id in list(self._dead):
                self._attempt(self._release, worker_id)
            for leader_id in list(self._resigned):
                self._attempt(self._resign, leader_id)
            for child in self._workers:
                self._attempt(self._quarantine.judge, child)
            self._attempt(self._stores.counters.flush)

    def _attempt(self, chore: Callable[..., object], *about: object) -> None:
        """Do one chore; one that fails is done again in the next round, and keeps no other from being done."""
        try:
            chore(*about)
        except ServerError as error:
            self._sparing.warning(f"waits for the database: {error}")
        except Exception:
            logger.exception("a chore failed")

    def _release(self, worker_id: str) -> None:
        child, charge = self._dead[worker_id]
        released = self._stores.leases.release_worker(worker_id, charge)
        self._stores.workers.leave(worker_id)
        del self._dead[worker_id]
        if released:
            logger.warning("gave back %d chunks of a worker process that died", released)
        if released and charge:
            # A death that is charged to chunks brings the search for the culprit forward.
            child.start_soon()

    def _resign(self, leader_id: str) -> None:
        self._leaders.resign(RECONCILE, leader_id)
        self._resigned.remove(leader_id)
