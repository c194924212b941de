"""The task thread kept free for urgent messages."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery.worker import state

from worker.reserve import BULK_THREADS, UrgentFirst

BULK, URGENT = "m.0a.bulk", "m.0a.urgent"


def held(queue: str) -> SimpleNamespace:
    return SimpleNamespace(delivery_info={"routing_key": queue})


def test_urgent_messages_are_asked_for_first() -> None:
    assert UrgentFirst([BULK, URGENT]).consume(2) == [URGENT, BULK]


@pytest.mark.parametrize(("bulk", "urgent", "asked"), [(3, 1, [URGENT, BULK]), (4, 0, [URGENT]), (4, 1, [URGENT])])
def test_bulk_is_not_asked_for_while_it_holds_its_threads(
    monkeypatch: pytest.MonkeyPatch, bulk: int, urgent: int, asked: list[str]
) -> None:
    assert BULK_THREADS == 4
    monkeypatch.setattr(state, "reserved_requests", [held(BULK)] * bulk + [held(URGENT)] * urgent)
    assert UrgentFirst([BULK, URGENT]).consume(2) == asked
