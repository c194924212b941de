"""What a Prometheus server may ask of the service: its own requests, and the figures of the whole installation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version

import httpx
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from starlette.types import Scope

from storage import fullness
from storage.exposition import FigureCollector
from storage.figures import Figure, Figures
from storage.stores import Stores

#: Upper ends of the classes that durations are counted in, in seconds.
_SECONDS = (0.005, 0.025, 0.1, 0.25, 1, 2.5, 10, 60)

#: How long the supervisor beside the service may take to answer, in seconds.
_MACHINE = 2.0

#: What asks how the service is, again and again: what that is answered with is no caller's trouble, and has alerts of
#: its own. `/health` and `/ping` are TEI's and SageMaker's.
PROBES = frozenset({"/healthz", "/readyz", "/health", "/ping", "/metrics"})

#: Where a request's scope says that it was refused since no worker serves its model.
_UNSERVED = "embedmill.unserved"

# When each series began, as a series of its own: nobody asks.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Counts requests, by the template of their route: never by an id, of which there is no end.

    Args:
        stores: Where the installation's figures are.
        open_streams: Returns how many streams of events are open.
        machine: Address of the supervisor beside it, whose figures are told too; None: there is none.
    """

    def __init__(self, stores: Stores, open_streams: Callable[[], int], machine: str | None = None) -> None:
        self._machine = machine
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(FigureCollector(Figures(stores).get))
        self._registry.register(FigureCollector(lambda: _overdue(stores)))
        ProcessCollector(registry=self._registry)
        labels = ("method", "route")
        self._requests = self._counter("requests", "Requests answered", (*labels, "status"))
        self._unserved = self._counter("unserved", "Requests refused since no worker serves their model", ())
        self._received = self._counter("request_bytes", "Bytes of bodies received", labels)
        self._sent = self._counter("response_bytes", "Bytes of bodies sent", labels)
        self._seconds = Histogram(
            "embedmill_http_request_seconds",
            "Time from a request's head to the end of its answer",
            labels,
            buckets=_SECONDS,
            registry=self._registry,
        )
        meaning = "Writes of this service refused because the database's disk was full"
        fullness.listen(Counter("embedmill_service_storage_full", meaning, registry=self._registry).inc)
        streams = Gauge("embedmill_http_streams", "Streams of events that are open", registry=self._registry)
        streams.set_function(open_streams)
        info = Gauge("embedmill_build_info", "Its version; always 1", ("version",), registry=self._registry)
        info.labels(version("embedmill")).set(1)

    def count(self, scope: Scope, status: int, seconds: float, received: int, sent: int) -> None:
        """Count one answered request.

        Args:
            scope: The request.
            status: What it was answered with.
            seconds: How long that took.
            received: Bytes of its body.
            sent: Bytes of the answer's body.
        """
        method, route = scope["method"], route_of(scope)
        if scope.get(_UNSERVED) and route not in PROBES:
            self._unserved.inc()
        self._requests.labels(method, route, str(status)).inc()
        self._received.labels(method, route).inc(received)
        self._sent.labels(method, route).inc(sent)
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format, and after it what the supervisor beside the service tells.

        Raises:
            StorageUnavailable: When the database cannot be reached.
        """
        return generate_latest(self._registry) + self._of_machine()

    def _of_machine(self) -> bytes:
        if self._machine is None:
            return b""
        try:
            told = httpx.get(f"{self._machine}/metrics", timeout=_MACHINE, trust_env=False)
        except httpx.HTTPError:
            # `/readyz` says so.
            return b""
        return told.content if told.status_code == 200 else b""

    def _counter(self, name: str, meaning: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"embedmill_http_{name}", meaning, labels, registry=self._registry)


def route_of(scope: Scope) -> str:
    """Return the template of the route that a request came to, such as `/v1/jobs/{job_id}`: it holds nobody's words."""
    return str(getattr(scope.get("route"), "path", "") or "elsewhere")


def _overdue(stores: Stores) -> Iterator[Figure]:
    """Yield what the service alone may look at; see `storage/rights.py`."""
    meaning = "Age of the oldest end of a job that should have been told to its webhook by now"
    yield Figure("embedmill_webhook_oldest_due_seconds", meaning, "gauge", (), {(): stores.webhooks.overdue()})


def is_probe(scope: Scope) -> bool:
    """Return whether a request only asks how the service is."""
    return route_of(scope) in PROBES


def note_unserved(scope: Scope) -> None:
    """Note that a request is refused since no worker serves its model: nothing is wrong with the service."""
    scope[_UNSERVED] = True
