"""What a Prometheus server may ask about the whole installation: defences, work done, what waits, who works.

The figures come out of the database: whoever is asked gives the same answer. Here they are plain values;
`storage/exposition.py` writes them down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from storage.backlogs import NOTHING
from storage.contract.models import Priority
from storage.counters import MEANINGS
from storage.kept import Kept
from storage.spreads import Spread
from storage.stores import Stores

#: Values by the labels' values.
_Values = dict[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric.

    Args:
        name: As Prometheus names it, without `_total`.
        meaning: A sentence's worth of what it counts.
        kind: `counter` only grows, `gauge` goes up and down, `histogram` is a spread of durations.
        labels: Names of what tells its values apart.
        values: Each value by the labels' values.
        spreads: The same of a histogram.
    """

    name: str
    meaning: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...] = ()
    values: _Values = field(default_factory=dict)
    spreads: dict[tuple[str, ...], Spread] = field(default_factory=dict)


class Figures:
    """Collects the installation's figures; may be asked by several threads.

    Args:
        stores: Where they are.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._kept = Kept(lambda: [*self._counted(), *self._waiting(), *self._alive(), *self._of_database()])

    def get(self) -> list[Figure]:
        """Return every figure, some of them a little old where collecting them takes long.

        Raises:
            StorageUnavailable: When the database cannot be reached.
        """
        return self._kept.get()

    def _counted(self) -> Iterable[Figure]:
        for name, value in self._stores.counters.all().items():
            yield Figure(f"embedmill_{name}", _sentence(MEANINGS[name]), "counter", (), {(): value})

    def _waiting(self) -> Iterable[Figure]:
        states: _Values = {(state,): float(count) for state, count in self._stores.chunks.open_by_state().items()}
        yield Figure("embedmill_chunks", "Chunks that have no outcome yet", "gauge", ("state",), states)
        found = self._stores.backlogs.by_queue()
        # A model that was ever served and has nothing to do says so: who scales by it must not find nothing.
        known = {served.card.name for served in self._stores.workers.cards()}
        queues = {(model, priority.name.lower()) for model in known for priority in Priority} | found.keys()
        told = {queue: found.get(queue, NOTHING) for queue in sorted(queues)}
        for name, meaning in _BACKLOG.items():
            values: _Values = {queue: float(getattr(one.load, name)) for queue, one in told.items()}
            yield Figure(f"embedmill_backlog_{name}", meaning, "gauge", _QUEUE, values)
        # As above: each kind that was ever served says so where all of it is served.
        unserved: _Values = {(served.card.name, served.card.precision): 0.0 for served in self._stores.workers.cards()}
        unserved.update({kind: float(tokens) for kind, tokens in self._stores.backlogs.unserved().items()})
        yield Figure("embedmill_backlog_unserved_tokens", _UNSERVED, "gauge", ("model", "precision"), unserved)
        ages: _Values = {queue: one.oldest for queue, one in told.items()}
        yield Figure("embedmill_oldest_waiting_seconds", _OLDEST, "gauge", _QUEUE, ages)

    def _alive(self) -> Iterable[Figure]:
        alive: _Values = {}
        for served in self._stores.workers.cards():
            # One name and precision may have been served at several revisions.
            kind = (served.card.name, served.card.precision)
            alive[kind] = alive.get(kind, 0) + served.workers
        yield Figure("embedmill_workers", "Worker processes that are alive", "gauge", ("model", "precision"), alive)
        leads = float(self._stores.vitals.reconciler_leads())
        yield Figure("embedmill_reconciler_leads", "1 while some reconciler leads", "gauge", (), {(): leads})

    def _of_database(self) -> Iterable[Figure]:
        vitals = self._stores.vitals
        size, latency = float(vitals.size()), vitals.latency()
        yield Figure("embedmill_database_size_bytes", "Size of the database on its disk", "gauge", (), {(): size})
        meaning = "Time from a question to the database to its answer, measured when asked"
        yield Figure("embedmill_database_latency_seconds", meaning, "gauge", (), {(): latency})


_QUEUE = ("model", "priority")
_UNSERVED = "Tokens that no live worker may do: none serves their job's model, revision and class of precision"
_BACKLOG = {
    "tokens": "Tokens that wait or are in hand, estimated from bytes",
    "texts": "Texts that wait or are in hand",
    "chunks": "Chunks that wait or are in hand",
}
_OLDEST = "Age of the oldest job that no worker has begun with, since its last text was accepted"


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
