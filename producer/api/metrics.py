"""What a Prometheus server may ask of the service: its own requests, and the figures of the whole installation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from storage.figures import figures
from storage.stores import Stores

#: Upper ends of the classes that durations are counted in, in seconds.
_SECONDS = (0.005, 0.025, 0.1, 0.25, 1, 2.5, 10, 60)


class Metrics:
    """Counts requests, by the template of their route: never by an id, of which there is no end.

    Args:
        stores: Where the installation's figures are.
        open_streams: Returns how many streams of events are open.
    """

    def __init__(self, stores: Stores, open_streams: Callable[[], int]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Installation(stores))
        labels = ("method", "route")
        self._requests = self._counter("requests", "Requests answered", (*labels, "status"))
        self._received = self._counter("request_bytes", "Bytes of bodies received", labels)
        self._sent = self._counter("response_bytes", "Bytes of bodies sent", labels)
        self._seconds = Histogram(
            "embedmill_http_request_seconds",
            "Time from a request's head to the end of its answer",
            labels,
            buckets=_SECONDS,
            registry=self._registry,
        )
        streams = Gauge("embedmill_http_streams", "Streams of events that are open", registry=self._registry)
        streams.set_function(open_streams)

    def count(self, method: str, route: str, status: int, seconds: float, received: int, sent: int) -> None:
        """Count one answered request.

        Args:
            method: Its method.
            route: The template of its route, such as `/v1/jobs/{job_id}`.
            status: What it was answered with.
            seconds: How long that took.
            received: Bytes of its body.
            sent: Bytes of the answer's body.
        """
        self._requests.labels(method, route, str(status)).inc()
        self._received.labels(method, route).inc(received)
        self._sent.labels(method, route).inc(sent)
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format.

        Raises:
            StorageUnavailable: When the database cannot be reached.
        """
        return generate_latest(self._registry)

    def _counter(self, name: str, meaning: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"embedmill_http_{name}", meaning, labels, registry=self._registry)


def route_of(scope: Scope) -> str:
    """Return the template of the route that a request came to, such as `/v1/jobs/{job_id}`: it holds nobody's words."""
    return str(getattr(scope.get("route"), "path", "") or "elsewhere")


class _Installation(Collector):
    """Collects the installation's figures anew at each question."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

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
