from __future__ import annotations

import threading

from tests.repeating import repeating


def test_an_act_is_repeated_as_long_as_the_block_lasts() -> None:
    turns, enough = list[int](), threading.Event()

    def turn() -> None:
        turns.append(len(turns))
        if len(turns) >= 100:
            enough.set()

    with repeating(turn) as raised:
        assert enough.wait(60)
    # Then it was one turn after the other, and the thread is over
    assert turns == list(range(len(turns))) and raised == []


def test_an_act_that_fails_is_told_and_none_is_repeated_any_more() -> None:
    stuck, over = OSError("the wheel is stuck"), threading.Event()

    def fail() -> None:
        raise stuck

    with repeating(lambda: over.wait(0.001), fail) as raised:
        while not raised:
            over.wait(0.001)
    assert raised == [stuck]
