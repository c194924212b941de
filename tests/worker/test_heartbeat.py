"""A process's pulse, over both databases."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import pytest
import redis

from storage import counters
from storage.attempts import AttemptKey
from storage.contract.broker import KEY_PREFIX
from storage.contract.errors import StorageUnavailable
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.redisclient import redis_client
from storage.stores import Stores
from tests.storage.builders import CARD, chunk_row, serve, set_chunk, submit
from worker import exits
from worker import heartbeat as beating
from worker import starvation as starving
from worker.heartbeat import Heartbeat
from worker.memory import MemoryWatch
from worker.starvation import Starvation
from worker.watches import STALL, Watch, stall


class Ended(Exception):
    """Raised in place of the process's end."""


def end(code: int) -> None:
    raise Ended(code)


def pulse(stores: Stores, worker: str, held: Sequence[AttemptKey] = (), watches: Sequence[Watch] = ()) -> Heartbeat:
    return Heartbeat(stores, worker, lambda: held, lambda: None, watches, end=end)


def test_a_beat_extends_the_leases_of_what_is_worked_on_and_of_nothing_else(stores: Stores) -> None:
    # Given a worker that has claimed two chunks, and lost the answer to one claim
    worker = serve(stores)
    job_id = submit(stores, chunks=2)
    (known,) = stores.leases.claim(Pointer(job_id, 0), worker, CARD.id, 0)
    stores.leases.claim(Pointer(job_id, 1), worker, CARD.id, 0)
    for number in (0, 1):
        set_chunk(stores.database, job_id, number, lease_expires=1)
    # When it beats
    pulse(stores, worker, [known.key]).beat()
    # Then the chunk nobody works on comes free
    assert chunk_row(stores.database, job_id, 0).lease_expires > 1_000_000
    assert chunk_row(stores.database, job_id, 1).lease_expires == 1


def test_a_hanging_engine_ends_the_process_and_is_counted(stores: Stores) -> None:
    counters.take()
    with pytest.raises(Ended, match=str(exits.STALLED)):
        pulse(stores, new_id(), watches=[stall(lambda: time.monotonic() - STALL - 1)]).watch()
    assert stores.counters.all()["workers_stalled"] == 1


def test_nothing_is_held_to_hang_when_the_whole_machine_stood_still(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a sleep of a second that lasts ten minutes, and such as last a second
    sleeps, looked, beaten = iter([600.0, 0.0, 0.0]), [], []

    def sleep(seconds: float) -> float:
        late = next(sleeps, None)
        if late is None:
            raise SystemExit
        return late

    def watch() -> None:
        looked.append(time.monotonic())

    monkeypatch.setattr(beating, "_sleep", sleep)
    beat = Heartbeat(stores, new_id(), lambda: (), lambda: None, [watch], end=end, beaten=lambda: beaten.append(1))
    # When it goes on
    with pytest.raises(SystemExit):
        beat._beat_for_ever()
    # Then nobody is asked whether anything hangs, for a while, and the rounds are told all the same
    assert looked == [] and len(beaten) == 3
    # And as soon as that is over, they are asked again
    monkeypatch.setattr(beating, "_AWAKENS", 0.0)
    sleeps = iter([600.0, 0.0, 0.0])
    with pytest.raises(SystemExit):
        beat._beat_for_ever()
    assert len(looked) == 3


def test_an_engine_that_makes_progress_does_not(stores: Stores) -> None:
    pulse(stores, new_id(), watches=[stall(time.monotonic)]).watch()


def test_a_starving_process_ends_and_is_counted(
    stores: Stores, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters.take()
    monkeypatch.setattr(starving, "redis_client", partial(redis_client, timeout=60))
    client = redis.Redis.from_url(redis_server)
    client.lpush(f"{KEY_PREFIX}hungry", "a message that nobody takes")
    try:
        with pytest.raises(Ended, match=str(exits.STARVED)):
            pulse(
                stores, new_id(), watches=[Starvation(redis_server, ["hungry"], lambda: 60.0, lambda: 0, patience=-1)]
            ).watch()
    finally:
        client.delete(f"{KEY_PREFIX}hungry")
        client.close()
    assert stores.counters.all()["workers_starved"] == 1


def test_a_process_that_has_grown_too_far_is_asked_to_stop_once(stores: Stores) -> None:
    # Given a process that was 100 MiB large when it was warm
    counters.take()
    stops: list[bool] = []
    sizes = iter([100, 150, 301, 400])
    memory = MemoryWatch(200, lambda: stops.append(True), lambda: next(sizes) * 2**20)
    beat = pulse(stores, new_id(), watches=[memory])
    # When it has grown by more than 200
    beat.watch()
    assert not stops
    beat.watch()
    beat.watch()
    # Then it is asked once, in order, and not ended at once
    assert len(stops) == 1
    assert stores.counters.all()["workers_outgrown"] == 1


def test_a_database_that_is_away_does_not_end_the_pulse(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    counters.take()
    monkeypatch.setattr(stores.leases, "heartbeat", _away)
    monkeypatch.setattr(stores.counters, "flush", _away)
    counters.count("messages_dropped")
    pulse(stores, new_id()).beat()
    pulse(stores, new_id()).watch()
    assert counters.take() == {"messages_dropped": 1}


def _away(*_: object) -> None:
    raise StorageUnavailable("away")
