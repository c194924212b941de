"""What a worker process tells of itself."""

from __future__ import annotations

import pytest

from storage.pulses import Pulse
from storage.stores import Stores
from tests.storage.builders import serve
from worker.heartbeat import Heartbeat
from worker.measures import Measures
from worker.vitals import Vitals


class Clock:
    """A clock that goes when it is told."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_rates_and_shares_are_those_of_the_last_half_minute() -> None:
    # Given a process that has worked before anybody looked
    measured, clock = Measures(), Clock()
    measured.count(worker_tokens=1e9, batch_tokens=1e9, batch_room_tokens=1e9)
    vitals = Vitals(lambda: (3, 8), 5.0, measured, lambda: 77, clock)
    # When it has read a thousand tokens in ten seconds, in batches half full, a fifth of them padding
    measured.count(worker_tokens=1_000, batch_tokens=800, batch_padding_tokens=200, batch_room_tokens=2_000)
    measured.take()  # the supervisor was told meanwhile
    clock.now += 10
    vitals.look()
    # Then that is told
    assert vitals.latest == Pulse(100.0, 0.5, 0.2, 77, 3, 8)
    # And less and less so while it is idle, and nothing of batches after half a minute
    clock.now += 10
    vitals.look()
    assert vitals.latest.tokens_per_second == 50.0
    for _ in range(4):
        clock.now += 10
        vitals.look()
    assert vitals.latest == Pulse(0.0, None, None, 77, 3, 8)


def test_a_device_without_memory_of_its_own_tells_none() -> None:
    clock = Clock()
    vitals = Vitals(lambda: None, 5.0, Measures(), lambda: 77, clock)
    assert vitals.latest is None
    vitals.look()
    assert vitals.latest == Pulse(0.0, None, None, 77, None, None)


def test_a_beat_tells_it_and_one_that_knows_nothing_leaves_what_was_told(stores: Stores) -> None:
    # Given a worker
    worker = serve(stores)
    found = Pulse(123.4, 0.75, 0.125, 2**33, 2**34, 2**36)
    pulses: list[Pulse | None] = [found, None]
    beats = Heartbeat(stores, worker, lambda: (), lambda: None, (), pulse=lambda: pulses.pop(0))
    # When it beats, with something to tell and without
    for _ in range(2):
        beats.beat()
        # Then whoever looks sees it
        (seen,) = stores.workloads.get().workers
        assert seen.pulse == found


def test_it_is_one_statement_more_or_less_for_nobody(stores: Stores, statements: list[str]) -> None:
    # Given a worker without work; when it beats, with and without something to tell
    worker = serve(stores)
    told: list[list[str]] = []
    for pulse in (None, Pulse(1.0)):
        statements.clear()
        stores.leases.heartbeat(worker, (), pulse)
        told.append([one.split()[0] for one in statements if not one.startswith(("BEGIN", "PRAGMA", "SET"))])
    # Then the row is written once, as before
    assert told[0] == told[1] and told[0].count("UPDATE") == 2  # the worker's, and that of its leases


@pytest.fixture
def statements(stores: Stores) -> list[str]:
    """Every statement that the database is asked, as it comes."""
    from sqlalchemy import event

    found: list[str] = []
    event.listen(
        stores.database.engine,
        "before_cursor_execute",
        lambda connection, cursor, statement, *_: found.append(statement),
    )
    return found
