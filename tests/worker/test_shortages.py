"""What is missing look after look is lost; what is missing at one look is on its way."""

from __future__ import annotations

from worker.shortages import LOOKS, Shortages


def test_what_is_missing_at_each_of_several_looks_is_lost_and_said_once() -> None:
    shortages = Shortages()
    assert [shortages.lasts("m", 2) for _ in range(LOOKS)] == [False] * (LOOKS - 1) + [True]
    assert [shortages.lasts("m", 2) for _ in range(LOOKS - 1)] == [False] * (LOOKS - 1)


def test_what_was_there_once_in_between_is_not() -> None:
    shortages = Shortages()
    for missing in (1, 3, 0, 1, 2, 1, 5):
        assert not shortages.lasts("m", missing)


def test_models_are_told_apart() -> None:
    shortages = Shortages()
    for _ in range(LOOKS - 1):
        shortages.lasts("m", 1)
    assert not shortages.lasts("other", 1)
    assert shortages.lasts("m", 1)
