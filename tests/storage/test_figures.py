"""The installation's figures, where several ask for them at once."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from storage.contract.errors import StorageUnavailable
from storage.counted import CounterStore
from storage.figures import Figures
from storage.kept import Kept
from storage.stores import Stores


class LateCounters(CounterStore):
    """Counters of a database that is away, and lets one wait for that answer."""

    def __init__(self, stores: Stores) -> None:
        super().__init__(stores.database)
        self.asked = 0
        self.begun, self.answers = threading.Event(), threading.Event()

    def all(self) -> dict[str, int]:
        self.asked += 1
        self.begun.set()
        self.answers.wait(30)
        raise StorageUnavailable("The database does not answer.")


def test_who_waits_for_anothers_turn_at_a_database_that_is_away_does_not_wait_again(stores: Stores) -> None:
    # Given one who asks a database that is away, and some who ask meanwhile
    counters = LateCounters(stores)
    figures = Figures(replace(stores, counters=counters))
    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(figures.get)]
        assert counters.begun.wait(30)
        asking += [threads.submit(figures.get) for _ in range(3)]
        while _within(Kept.get.__code__) < 4:
            threading.Event().wait(0.01)
        # When it is clear that it does not answer
        counters.answers.set()
        # Then all of them hear of that at once
        for one in asking:
            with pytest.raises(StorageUnavailable):
                one.result(30)
    assert counters.asked == 1
    # And who comes later asks anew
    with pytest.raises(StorageUnavailable):
        figures.get()
    assert counters.asked == 2


def _within(code: object) -> int:
    """Return how many threads are within a function, past its first line."""
    frames = list(sys._current_frames().values())
    found = 0
    for frame in frames:
        while frame is not None and frame.f_code is not code:
            frame = frame.f_back  # type: ignore[assignment]
        found += frame is not None and "asked" in frame.f_locals
    return found
