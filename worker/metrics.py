"""What a Prometheus server may ask of a worker machine: the figures of the whole installation."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from storage.figures import figures
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
        for figure in figures(self._stores):
            kind = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
            family = kind(figure.name, figure.meaning, labels=figure.labels)
            for labels, value in figure.values.items():
                family.add_metric(labels, value)
            yield family

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format.

        Raises:
            StorageUnavailable: When the database cannot be reached.
        """
        return generate_latest(self._registry)
