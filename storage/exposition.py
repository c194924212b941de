"""Figures in Prometheus' text format; imported only where `prometheus-client` is installed: by service and workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from storage.figures import Figure
from storage.spreads import BOUNDS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class FigureCollector(Collector):
    """Collects figures anew at each question.

    Args:
        look: Returns them.
    """

    def __init__(self, look: Callable[[], Iterable[Figure]]) -> None:
        self._look = look

    def describe(self) -> list[Metric]:
        """Return nothing: what it looks at need not answer when this is made."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        return map(_family, self._look())


def text(*looks: Callable[[], Iterable[Figure]]) -> bytes:
    """Return figures in Prometheus' text format.

    Args:
        *looks: Each returns some.
    """
    registry = CollectorRegistry(auto_describe=False)
    for look in looks:
        registry.register(FigureCollector(look))
    return generate_latest(registry)


def _family(figure: Figure) -> Metric:
    if figure.kind == "histogram":
        histogram = HistogramMetricFamily(figure.name, figure.meaning, labels=figure.labels)
        ends = [*map(str, BOUNDS), "+Inf"]
        for labels, spread in figure.spreads.items():
            histogram.add_metric(labels, list(zip(ends, accumulate(spread.counts), strict=True)), spread.seconds)
        return histogram
    kind = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
    family = kind(figure.name, figure.meaning, labels=figure.labels)
    for labels, value in figure.values.items():
        family.add_metric(labels, value)
    return family
