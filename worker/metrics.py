"""What a Prometheus server may ask of a worker machine: how often each defence was needed, and what is under way.

The figures are those of the whole installation, out of the database: every machine gives the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from storage.counters import MEANINGS
from storage.stores import Stores


class Metrics(Collector):
    """Collects anew at each question.

    Args:
        stores: Where the figures are.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        # Without `auto_describe` nothing is collected before somebody asks.
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def describe(self) -> list[Metric]:
        """Return nothing: the database need not answer when this is made."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        for name, value in self._stores.counters.all().items():
            yield CounterMetricFamily(f"embedmill_{name}", MEANINGS[name].capitalize(), value=value)
        under_way = GaugeMetricFamily("embedmill_chunks", "Chunks that have no outcome yet", labels=["state"])
        for state, count in self._stores.chunks.open_by_state().items():
            under_way.add_metric([state], count)
        yield under_way
        workers = GaugeMetricFamily(
            "embedmill_workers", "Worker processes that are alive", labels=["model", "precision"]
        )
        for served in self._stores.workers.cards():
            workers.add_metric([served.card.name, served.card.precision], served.workers)
        yield workers

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format.

        Raises:
            StorageUnavailable: When the database cannot be reached.
        """
        return generate_latest(self._registry)
