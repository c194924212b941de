"""Models that were found served a moment ago, so that a burst of small jobs does not cost a query a job."""

from __future__ import annotations

import threading
import time

from storage.contract.errors import UnknownModel
from storage.workers import Served, WorkerStore

#: How long a model is believed to be served, in seconds. Who is told late that its last worker left has a job that is
#: safe and waits, as if the worker had left just after it was submitted.
_BELIEVED = 1.0

#: Most names that are remembered.
_MOST = 1_000


class ServedModels:
    """Finds the identities of models; only what is served now is remembered.

    Args:
        store: Where workers and their models are kept.
    """

    def __init__(self, store: WorkerStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str | None], tuple[float, list[Served]]] = {}

    def find(self, name: str, revision: str | None = None) -> list[Served]:
        """Return the identities ever registered under a name, as `WorkerStore.find` does, up to a second late.

        Args:
            name: The model's name.
            revision: Commit hash, or its beginning; None: any.
        """
        known = self._known.get((name, revision))
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        asked = time.monotonic()
        found = self._store.find(name, revision)
        if found and found[0].workers:
            with self._lock:
                if len(self._known) >= _MOST:
                    self._known.clear()
                self._known[name, revision] = (asked + _BELIEVED, found)
        return found

    def names(self) -> list[str]:
        """Return the names of all models that are served now, in order."""
        return sorted({served.card.name for served in self._store.cards() if served.workers})

    def bound(self, name: str, revision: str | None, is_usual: bool) -> Served | None:
        """Return the identity of a model that a new job is bound to, or None while nobody has ever served it.

        Args:
            name: The model's name.
            revision: The revision asked for, or None.
            is_usual: Whether it is the model of jobs that name none, which may be waited for.

        Raises:
            UnknownModel: When nobody has ever served another one.
        """
        served = self.find(name, revision)
        if not served and not is_usual:
            raise UnknownModel(
                f"No worker has ever served {name}{f' at revision {revision}' if revision else ''}.",
                f"Start one: embedmill up (or worker) --model {name}",
            )
        return served[0] if served else None
