"""A slot whose processes die again and again."""

from __future__ import annotations

import time

import pytest

from storage.stores import Stores
from tests.storage.builders import MODEL, serve
from worker import child as child_module
from worker import quarantine
from worker.child import Child
from worker.quarantine import AFTER, Quarantine


@pytest.fixture
def doomed(monkeypatch: pytest.MonkeyPatch) -> Child:
    """A child that has died as often as it takes."""
    monkeypatch.setattr(child_module, "_BACKOFF", 0.0)
    monkeypatch.setattr(quarantine, "_STANDS", 0.0)
    child = Child("worker on cuda:0", lambda _: ["-c", "raise SystemExit(70)"], {}, lambda *_: 0)
    deadline = time.monotonic() + 60
    while child.deaths < AFTER or child.pid is not None:
        assert time.monotonic() < deadline
        child.tend()
    return child


def test_a_slot_is_taken_out_while_another_worker_serves_its_model(
    stores: Stores, doomed: Child, caplog: pytest.LogCaptureFixture
) -> None:
    serve(stores)
    judge = Quarantine(stores.workers, MODEL)
    judge.judge(doomed)
    assert judge.holds(doomed)
    assert "taken out after 5 deaths in a row: exit code 70" in caplog.text


def test_the_last_slot_is_never_taken_out(stores: Stores, doomed: Child) -> None:
    judge = Quarantine(stores.workers, MODEL)
    judge.judge(doomed)
    assert not judge.holds(doomed)


def test_a_slot_comes_back_when_nobody_else_is_left(stores: Stores, doomed: Child) -> None:
    other, judge = serve(stores), Quarantine(stores.workers, MODEL)
    judge.judge(doomed)
    assert judge.holds(doomed)
    stores.workers.leave(other)
    judge.judge(doomed)
    assert not judge.holds(doomed)


def test_a_slot_that_died_less_often_is_left_alone(stores: Stores) -> None:
    serve(stores)
    child = Child("worker on cuda:0", lambda _: [], {}, lambda *_: 0)
    judge = Quarantine(stores.workers, MODEL)
    judge.judge(child)
    assert not judge.holds(child)
