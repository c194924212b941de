"""What comes again and again is told now and then."""

from __future__ import annotations

import logging

import pytest

from worker.sparing import Sparing


def test_the_same_is_told_once_a_minute_and_something_else_at_once(caplog: pytest.LogCaptureFixture) -> None:
    sparing = Sparing(logging.getLogger("mill"))
    for _ in range(5):
        sparing.warning("The wheel stands.")
    sparing.warning("The river is low.")
    assert [record.getMessage() for record in caplog.records if record.name == "mill"] == [
        "The wheel stands.",
        "The river is low.",
    ]


def test_when_its_time_has_come_it_is_told_with_how_often_it_came(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("worker.sparing.time.monotonic", lambda: now[0])
    sparing = Sparing(logging.getLogger("mill"), every=10)
    for now[0] in (100.0, 101.0, 109.0, 110.0, 200.0):
        sparing.warning("The wheel stands.")
    told = [record.getMessage() for record in caplog.records if record.name == "mill"]
    assert told == [
        "The wheel stands.",
        "The wheel stands. (3 times since this was told last)",
        "The wheel stands.",
    ]
