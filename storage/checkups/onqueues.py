"""What waits and who works: workers, the reconciler, chunks that nobody takes, rows that must not be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Select, func, select

from storage.checkups import onversions
from storage.checkups.check import Area, NotChecked, Outcome, ok, warning, wrong
from storage.checkups.ondatabase import reached
from storage.contract.errors import EmbedmillError
from storage.contract.models import model_name
from storage.contract.settings import Settings
from storage.database import SCHEMA_VERSION, now_ms
from storage.invariants import START
from storage.leaders import RECONCILE
from storage.pulses import SILENT
from storage.stores import Stores
from storage.tables import CHUNK_IS_DISPATCHED, CHUNK_IS_LEASED, ChunkRow, LeaderRow

#: A message that nobody answers for so long is worth a word, in milliseconds: the reconciler takes it back after ten
#: minutes at the latest.
_UNCLAIMED = 60_000

#: A lease over for so long shows that no reconciler works, in milliseconds.
_OVERDUE = 10_000

_CHUNKS = select(func.count()).select_from(ChunkRow)

#: How long rows are looked through, in seconds.
_PATIENCE = 3.0

#: Counters of what should never happen, or only with a reason that is worth finding.
_TELLING = {
    "invariants_broken": "rows were found in a state that must not be",
    "texts_poisoned": "texts were given up because they ended process after process",
    "workers_died": "worker processes crashed",
    "workers_stalled": "worker processes ended themselves because the engine made no progress",
    "workers_starved": "worker processes ended themselves because no message reached them",
    "workers_outgrown": "worker processes ended themselves because their memory had grown too far",
    "sweeps_failed": "duties of the reconciler were cut short by an error",
}


def area(settings: Settings) -> Area[Stores]:
    """Return the checks of what is in the settings' database."""

    @contextmanager
    def opened() -> Iterator[tuple[Stores, Outcome]]:
        try:
            with reached(settings) as database:
                found = database.schema_version()
                if found != SCHEMA_VERSION:
                    raise NotChecked("the database's schema is not the one this program knows")
                stores = Stores.on(database)
                yield stores, _workers(stores)
        except EmbedmillError as error:
            raise NotChecked("the database could not be looked at") from error

    found: Area[Stores] = Area("queues", "workers", opened, is_server=True)
    for name, look in CHECKS.items():
        found.check(name, look)
    found.check("model", lambda stores: _model(stores, settings.model))
    return found


def _workers(stores: Stores) -> Outcome:
    workers = stores.workloads.workers()
    if not workers:
        return warning(
            "No worker is alive: jobs are accepted, and wait.", "Start one: embedmill up, or embedmill worker."
        )
    names = {one.card.id: one.card.name for one in stores.workers.cards()}
    told = [f"{one.device} on {one.host} (pid {one.pid}) serves {names.get(one.model_id, '?')}" for one in workers]
    silent = [one for one in workers if one.silent_seconds > SILENT]
    if silent:
        who = ", ".join(f"{one.device} on {one.host} (pid {one.pid}): {one.silent_seconds:.0f} s" for one in silent)
        return warning(
            f"{len(silent)} of {len(workers)} worker processes have been silent for long: {who}.",
            "One that is frozen is ended and started again by its supervisor; else its host is gone, or it cannot write"
            " to the database (see above).",
            told,
        )
    return ok(f"{len(workers)} worker processes are alive." if len(workers) > 1 else "A worker process is alive.", told)


def _versions(stores: Stores) -> Outcome:
    living = [(f"worker {one.device} on {one.host} (pid {one.pid})", one.release) for one in stores.workloads.workers()]
    living += [(f"service on {one.host} (pid {one.pid})", one.release) for one in stores.services.live()]
    return onversions.judge(living, SCHEMA_VERSION)


def _reconciler(stores: Stores) -> Outcome:
    leads = select(func.count()).where(LeaderRow.duty == RECONCILE, LeaderRow.expires > now_ms())
    if _count(stores, leads):
        return ok("A reconciler leads.")
    told = "No reconciler works: what is lost or over is not taken back."
    remedy = "Each worker brings one; else run embedmill reconcile. One that runs and cannot lead says why in its log."
    return wrong(told, remedy) if any(stores.chunks.open_by_state().values()) else warning(told, remedy)


def _waiting(stores: Stores) -> Outcome:
    workload = stores.workloads.get()
    names = {one.card.id: one.card.name for one in stores.workers.cards()}
    served = {one.model_id for one in workload.workers}
    idle = {model: load for model, load in workload.queued.items() if model not in served and load.texts}
    waiting = sum(load.texts for load in workload.queued.values())
    if idle:
        told = ", ".join(f"{load.texts:,} for {names.get(model, 'a model never seen')}" for model, load in idle.items())
        return warning(
            f"Texts wait for models that no worker serves: {told}.",
            "Start a worker with --model; embedmill status JOB says what a job waits for.",
        )
    return ok(f"{waiting:,} texts wait or are in hand." if waiting else "Nothing waits.")


def _model(stores: Stores, name: str) -> Outcome:
    known = stores.workers.find(model_name(name))
    if not known:
        return warning(f"No worker has ever served {name}.", f"Start one: embedmill worker --model {name}.")
    card = known[0].card
    if stores.tokenizers.digest(card.id) is None:
        return warning(
            f"{name} is known, and its tokenizer is not: /v1/tokens cannot answer.",
            "Start a worker of it anew, which registers its tokenizer.",
        )
    alive = f"{known[0].workers} serve it now" if known[0].workers else "none serves it now"
    return ok(f"{name} is known at revision {card.revision[:12]} in {card.precision}, with its tokenizer; {alive}.")


def _unclaimed(stores: Stores) -> Outcome:
    late = _count(stores, _CHUNKS.where(CHUNK_IS_DISPATCHED, ChunkRow.dispatched_at < now_ms() - _UNCLAIMED))
    if late:
        return warning(
            f"{late:,} chunks were sent more than {_UNCLAIMED // 1000} s ago, and no worker has taken them.",
            "Look whether workers reach Redis and may write to the database (their log); what was lost is sent again.",
        )
    return ok("What was sent was taken.")


def _leases(stores: Stores) -> Outcome:
    over = _count(stores, _CHUNKS.where(CHUNK_IS_LEASED, ChunkRow.lease_expires < now_ms() - _OVERDUE))
    if over:
        return wrong(
            f"{over:,} leases are over, and nobody takes them back.", "Start a reconciler: embedmill reconcile."
        )
    return ok("No lease is over.")


def _rows(stores: Stores) -> Outcome:
    deadline, place, broken, pages = time.monotonic() + _PATIENCE, START, dict[str, int](), 0
    while True:
        findings = stores.invariants.check(place)
        pages += 1
        for name, times in findings.broken.items():
            broken[name] = broken.get(name, 0) + times
        if findings.next is None or time.monotonic() > deadline:
            break
        place = findings.next
    if broken:
        told = ", ".join(f"{name} {times:,}" for name, times in broken.items())
        return wrong(
            f"Rows are in a state that must not be: {told}.",
            "Keep a copy of the database and of the logs, and report it; cancel and submit again the jobs concerned.",
        )
    return ok("The rows looked at are as they must be." if findings.next else "All rows are as they must be.")


def _defences(stores: Stores) -> Outcome:
    counted = stores.counters.all()
    told = [f"{counted[name]:,} times: {meaning}" for name, meaning in _TELLING.items() if counted[name]]
    if told:
        return warning(
            "Since the database was made, something happened that has a reason.",
            "Look for it in the logs of workers and reconciler; /metrics shows when each happens again.",
            told,
        )
    return ok("No worker has died, and nothing had to be given up.")


def _count(stores: Stores, query: Select[Any]) -> int:
    with stores.database.read() as connection:
        return int(connection.execute(query).scalar_one())


#: What is looked at after the workers, in order.
CHECKS: dict[str, Callable[[Stores], Outcome]] = {
    "versions": _versions,
    "reconciler": _reconciler,
    "waiting": _waiting,
    "unclaimed": _unclaimed,
    "leases": _leases,
    "rows": _rows,
    "defences": _defences,
}
