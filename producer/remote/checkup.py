"""What `embedmill doctor --url` looks at: a service, as a client sees it."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import httpx

from producer.remote.connection import Connection
from storage.checkups import onversions
from storage.checkups.check import Area, Outcome, not_checked, ok, warning, wrong
from storage.checkups.places import median, shown
from storage.contract.errors import EmbedmillError, Forbidden, InvalidOption, ServiceUnavailable, Unauthorized
from storage.contract.settings import Settings
from storage.pulses import SILENT
from storage.releases import Release

#: A call that answers later than this feels slow, in milliseconds.
_SLOW = 250.0

_ASKED = 7


@dataclass(frozen=True, slots=True)
class Service:
    """A service that answers.

    Args:
        connection: Asks it.
        url: Where it is.
        has_key: Whether a key is sent.
    """

    connection: Connection
    url: str
    has_key: bool

    def get(self, path: str) -> httpx.Response:
        """Return the answer to one question, which is not asked again."""
        return self.connection.ask("GET", path)


def area(settings: Settings) -> Area[Service]:
    """Return the checks of the settings' service."""

    @contextmanager
    def opened() -> Iterator[tuple[Service, Outcome]]:
        if settings.url is None:
            raise InvalidOption("There is no url of a service.", "Give one with --url, or set EMBEDMILL_URL.")
        key = settings.api_key.get_secret_value() if settings.api_key is not None else None
        connection = Connection(settings.url, key, retry_for=0)
        try:
            service = Service(connection, connection.url, bool(key))
            yield service, _alive(service)
        finally:
            connection.close()

    found: Area[Service] = Area("service", "reachable", opened, is_server=True)
    for name, look in CHECKS.items():
        found.check(name, look)
    return found


def _alive(service: Service) -> Outcome:
    answer = service.get("/healthz")
    try:
        alive = answer.json().get("status") == "alive"
    except (ValueError, AttributeError):
        alive = False
    if not alive:
        raise ServiceUnavailable(
            f"What answers at {shown(service.url)} is no Embedmill service.",
            "Check the address, and what stands between.",
        )
    return ok(f"The service answers at {shown(service.url)}.")


def _version(service: Service) -> Outcome:
    try:
        theirs = str(service.get("/openapi.json").json()["info"]["version"])
    except (EmbedmillError, ValueError, KeyError, TypeError):
        return not_checked("The service does not tell its version.")
    ours = version("embedmill")
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        return warning(
            f"The service is of version {theirs}, and this client of {ours}.",
            "Before 1.0 a minor version may change an interface: use the same on both sides.",
        )
    return ok(f"The service is of version {theirs}, and this client of {ours}.")


def _key(service: Service) -> Outcome:
    try:
        service.get("/v1/jobs?limit=1")
    except Unauthorized as error:
        if service.has_key:
            return wrong(f"The service refuses the key: {error.message}", "Ask its operator for another one.")
        return wrong("The service wants a key, and none is given.", "Set EMBEDMILL_API_KEY.")
    except Forbidden:
        return ok("The service takes the key, which may not read jobs.")
    if not service.has_key:
        return ok("The service wants no key.")
    return ok("The service takes the key.")


def _safety(service: Service) -> Outcome:
    parts = urlsplit(service.url)
    if parts.scheme == "http" and service.has_key and not _is_here(parts.hostname or ""):
        return warning(
            "The key and all texts go over the network as they are.",
            "Put TLS before the service (a reverse proxy), and use https://.",
        )
    return ok("Nobody on the way reads the key." if service.has_key else "There is no key to be read on the way.")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _ready(service: Service) -> Outcome:
    try:
        told: Any = service.get("/readyz").json()
    except EmbedmillError:
        told = httpx.get(f"{service.url.rstrip('/')}/readyz", timeout=5).json()
    parts = [f"{name}: {word}" for name, word in told.items() if name != "status"]
    if told.get("status") != "ready":
        return wrong(
            "The service is not ready: jobs are accepted, if at all, and wait.",
            "Run embedmill doctor where the service runs.",
            parts,
        )
    return ok("It is ready.", parts)


def _workers(service: Service) -> Outcome:
    try:
        told = service.get("/v1/workers").json()
    except (Unauthorized, Forbidden):
        return not_checked("The key does not allow to look at workers.")
    if not told["workers"]:
        return warning("No worker is alive: jobs are accepted, and wait.", "Ask the operator to start one.")
    served = [f"{one['device']} on {one['host']} serves {one['model']}" for one in told["workers"]]
    if silent := [one for one in told["workers"] if one["seen_seconds"] > SILENT]:
        who = ", ".join(f"{one['device']} on {one['host']}: {one['seen_seconds']:.0f} s" for one in silent)
        found = f"{len(silent)} of {len(served)} worker processes have been silent for long: {who}."
        return warning(found, "Ask the operator to run embedmill doctor there.", served)
    return ok(f"{len(served)} worker processes are alive." if len(served) > 1 else "A worker process is alive.", served)


def _versions(service: Service) -> Outcome:
    try:
        told = service.get("/v1/workers").json()
    except (Unauthorized, Forbidden):
        return not_checked("The key does not allow to look at workers.")
    if "services" not in told:
        return not_checked("The service is of a version that does not tell others' versions.")
    living = [(f"service on {one['host']}", _release(one)) for one in told["services"]]
    living += [(f"worker {one['device']} on {one['host']}", _release(one)) for one in told["workers"]]
    # The database's is not told; a process that knows a newer one than it does not run.
    return onversions.judge(living, max(str(one.schema or "") for one in (_release(told), *dict(living).values())))


def _release(told: dict[str, Any]) -> Release:
    return Release(told.get("version"), told.get("schema_version"))


def _latency(service: Service) -> Outcome:
    times = []
    for _ in range(_ASKED):
        start = time.perf_counter()
        service.get("/healthz")
        times.append(1000 * (time.perf_counter() - start))
    found = f"Half of all answers come within {median(times):.0f} ms."
    if median(times) > _SLOW:
        return warning(found, "Submit many texts at a time, and wait for jobs instead of calling for each text.")
    return ok(found)


def _clock(service: Service) -> Outcome:
    told = service.get("/healthz").headers.get("date")
    if told is None:
        return not_checked("The service does not tell its time.")
    ahead = parsedate_to_datetime(told).timestamp() - time.time()
    if abs(ahead) > 30:
        return warning(
            f"Its clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this host's.",
            "Run NTP on both: signatures of webhooks and ends of keys go by the clock.",
        )
    return ok("Its clock and this host's agree.")


#: What is looked at, in order.
CHECKS: dict[str, Callable[[Service], Outcome]] = {
    "version": _version,
    "key": _key,
    "safety": _safety,
    "readiness": _ready,
    "workers": _workers,
    "versions": _versions,
    "latency": _latency,
    "clock": _clock,
}
