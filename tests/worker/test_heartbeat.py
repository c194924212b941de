"""A process's pulse, over both databases."""

from __future__ import annotations

import time

import pytest

from storage.contract.errors import StorageUnavailable
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.stores import Stores
from tests.storage.builders import CARD, chunk_row, serve, set_chunk, submit
from worker import exits, heartbeat
from worker.heartbeat import Heartbeat
from worker.starvation import Starvation


class Ended(Exception):
    """Raised in place of the process's end."""


def end(code: int) -> None:
    raise Ended(code)


def pulse(
    stores: Stores, worker: str, redis_server: str, progress: float | None = None, hungry: bool = False
) -> Heartbeat:
    starvation = Starvation(redis_server, [], lambda: 0.0)
    if hungry:
        starvation.found = lambda: True  # type: ignore[method-assign]
    last = time.monotonic() if progress is None else progress
    return Heartbeat(stores.leases, worker, 5.0, lambda: last, starvation, lambda: None, end)


def test_a_beat_extends_the_leases(stores: Stores, redis_server: str) -> None:
    worker = serve(stores)
    job_id = submit(stores)
    assert stores.leases.claim(Pointer(job_id, 0), worker, CARD.id, 0)
    set_chunk(stores.database, job_id, 0, lease_expires=1)
    pulse(stores, worker, redis_server).beat()
    assert chunk_row(stores.database, job_id).lease_expires > 1_000_000


def test_a_hanging_engine_ends_the_process(stores: Stores, redis_server: str) -> None:
    with pytest.raises(Ended, match=str(exits.STALLED)):
        pulse(stores, new_id(), redis_server, progress=time.monotonic() - heartbeat.STALL - 1).beat()


def test_a_starving_process_ends(stores: Stores, redis_server: str) -> None:
    with pytest.raises(Ended, match=str(exits.STALLED)):
        pulse(stores, new_id(), redis_server, hungry=True).beat()


def test_a_database_that_is_away_does_not_end_the_pulse(
    stores: Stores, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = pulse(stores, new_id(), redis_server)
    monkeypatch.setattr(stores.leases, "heartbeat", _away)
    beat.beat()


def _away(worker_id: str) -> set[tuple[str, int, int]]:
    raise StorageUnavailable("away")
