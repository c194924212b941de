"""Answers that are kept: the longer the more they cost, but never for long."""

from __future__ import annotations

import pytest

from storage import kept
from storage.kept import Kept


class Look:
    """Tells how often it was asked; takes as long as it is told to, on a clock of its own."""

    def __init__(self) -> None:
        self.now, self.takes, self.asked = 1_000.0, 0.0, 0

    def __call__(self) -> int:
        self.now += self.takes
        self.asked += 1
        return self.asked


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    look = Look()
    monkeypatch.setattr(kept, "monotonic", lambda: look.now)
    return look


@pytest.mark.parametrize(("takes", "kept_for"), [(0.5, 10.0), (20.0, 60.0), (300.0, 60.0)])
def test_an_answer_is_kept_for_twenty_times_what_it_cost_and_a_minute_at_most(
    look: Look, takes: float, kept_for: float
) -> None:
    answer = Kept(look)
    # Given an answer that took so long
    look.takes = takes
    assert answer.get() == 1
    # When somebody asks while it is kept, then he hears the same
    look.now += kept_for - 0.25
    assert answer.get() == 1
    # And afterwards it is found anew
    look.now += 0.5
    assert answer.get() == 2
