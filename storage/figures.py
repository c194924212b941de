"""What a Prometheus server may ask: how often each defence was needed, and what is under way.

The figures are those of the whole installation, out of the database: every machine gives the same answer. Here they are
plain values; who serves them brings the package that writes them down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from storage.counters import MEANINGS
from storage.stores import Stores


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric.

    Args:
        name: As Prometheus names it, without `_total`.
        meaning: A sentence's worth of what it counts.
        kind: `counter` only grows, `gauge` goes up and down.
        labels: Names of what tells its values apart.
        values: Each value by the labels' values.
    """

    name: str
    meaning: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...] = ()
    values: dict[tuple[str, ...], float] = field(default_factory=dict)


def figures(stores: Stores) -> Iterator[Figure]:
    """Yield every metric of the installation.

    Args:
        stores: Where they are.

    Raises:
        StorageUnavailable: When the database cannot be reached.
    """
    for name, value in stores.counters.all().items():
        yield Figure(f"embedmill_{name}", MEANINGS[name].capitalize(), "counter", (), {(): value})
    states: dict[tuple[str, ...], float] = {
        (state,): float(count) for state, count in stores.chunks.open_by_state().items()
    }
    yield Figure("embedmill_chunks", "Chunks that have no outcome yet", "gauge", ("state",), states)
    alive: dict[tuple[str, ...], float] = {}
    for served in stores.workers.cards():
        # One name and precision may have been served at several revisions.
        kind = (served.card.name, served.card.precision)
        alive[kind] = alive.get(kind, 0) + served.workers
    yield Figure("embedmill_workers", "Worker processes that are alive", "gauge", ("model", "precision"), alive)
