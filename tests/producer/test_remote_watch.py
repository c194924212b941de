"""Whoever waits over HTTP without hearing events asks the less often the longer the service takes to answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from producer.remote import watch
from producer.remote.watch import Watch


class Clock:
    """A clock that goes on only while somebody sleeps or waits for an answer."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Service:
    """A service that takes long to say where a huge job stands, and does so a few times before it ends."""

    def __init__(self, clock: Clock, costs: list[float]) -> None:
        self._clock = clock
        self._costs = costs

    def told(self, *_: Any) -> SimpleNamespace:
        self._clock.now += self._costs.pop(0)
        return SimpleNamespace(is_final=not self._costs)


def test_a_service_that_takes_long_to_answer_is_asked_the_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a service that answers at once, after half a second, and after five; and no events
    clock = Clock()
    monkeypatch.setattr(watch, "time", clock)
    monkeypatch.setattr(watch, "status_of", lambda told: told)
    service: Any = Service(clock, [0.0, 0.5, 5.0, 0.0])
    waiting = Watch(service, "018f", None, None)
    waiting._hears = False
    # When somebody waits for a job's end, then he asks for a twentieth of the time, but once a minute at least
    assert waiting.until_ended().is_final
    assert clock.slept == [0.5, pytest.approx(9.5), 60.0]
