"""Takes a slot out whose processes die again and again, as long as somebody else serves the same model."""

from __future__ import annotations

import logging
import time

from storage import counters
from storage.workers import WorkerStore
from worker.child import Child

logger = logging.getLogger(__name__)

#: Deaths in a row, each after a short life, after which a slot may be taken out.
AFTER = 5

#: How long a judgement stands, in seconds.
_STANDS = 5.0


class Quarantine:
    """Judges slots; the last one that serves a model is never taken out.

    Args:
        workers: Tells who else is alive.
        model: Name of the model all slots here serve.
    """

    def __init__(self, workers: WorkerStore, model: str) -> None:
        self._workers = workers
        self._model = model
        self._out: set[str] = set()
        self._judged: dict[str, float] = {}

    def holds(self, child: Child) -> bool:
        """Whether a dead child's slot is out for now; waits for nothing."""
        return child.name in self._out

    def judge(self, child: Child) -> None:
        """Take a child's slot out, or take it back, by what the database says every few seconds.

        Raises:
            StorageUnavailable: When it does not answer; the last judgement stands.
        """
        if child.pid is not None or child.deaths < AFTER:
            self._out.discard(child.name)
        elif time.monotonic() - self._judged.get(child.name, -_STANDS) >= _STANDS:
            self._judged[child.name] = time.monotonic()
            self._judge(child, self._others(child))

    def _others(self, child: Child) -> bool:
        """Whether anybody else does what this slot did: the same identity, or, if it never was ready, the same name."""
        if child.model_id is not None:
            return self._workers.live()[child.model_id] > 0
        return any(served.workers for served in self._workers.find(self._model))

    def _judge(self, child: Child, others: bool) -> None:
        # It may have been started while the database was asked.
        if others and child.pid is None and child.name not in self._out:
            self._out.add(child.name)
            counters.count("slots_quarantined")
            why = child.error or child.last_end
            logger.error("%s is taken out after %d deaths in a row: %s", child.name, child.deaths, why)
        elif not others and child.name in self._out:
            self._out.discard(child.name)
            logger.warning("%s is tried again: nobody else serves %s", child.name, self._model)
