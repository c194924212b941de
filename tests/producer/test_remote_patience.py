"""How long requests are tried again, and how events are read."""

from __future__ import annotations

import pytest

from producer.remote.events import parsed
from producer.remote.patience import Patience


class _Clock:
    """Time that goes by only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


def test_patience_ends_when_its_time_is_over_and_no_pause_is_too_long(clock: _Clock) -> None:
    patience = Patience(60, clock, clock.sleep)
    while patience.lasts():
        assert patience.tries < 1000
    assert clock.now <= 160
    assert all(pause <= min(10, 0.25 * 2**tried) for tried, pause in enumerate(clock.slept))


def test_what_the_other_side_asks_for_is_waited(clock: _Clock) -> None:
    patience = Patience(60, clock, clock.sleep)
    assert patience.lasts(retry_after=5)
    assert clock.slept[0] >= 5


def test_nobody_waits_for_longer_than_there_is_time(clock: _Clock) -> None:
    assert not Patience(60, clock, clock.sleep).lasts(retry_after=61)
    assert clock.slept == []


def test_no_time_means_one_try(clock: _Clock) -> None:
    assert not Patience(0, clock, clock.sleep).lasts()


def test_events_are_told_apart_from_heartbeats() -> None:
    lines = [": heartbeat", "", "event: status", 'data: {"a":1}', "id: 4", "", "data: one", "data: two", "", "event: x"]
    assert list(parsed(lines)) == [("", ""), ("status", '{"a":1}'), ("message", "one\ntwo")]
