"""Threads of the service that do something again and again, and go on whatever comes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from producer.api import rounds
from producer.api.rounds import Rounds
from storage.contract.errors import StorageUnavailable

#: Longest wait for another thread, in seconds; a sound program needs none of it.
PATIENCE = 60.0


def test_a_round_that_fails_is_followed_by_the_next_and_none_comes_after_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rounds, "_AFTER_FAILURE", 0.001)
    done: list[str] = []
    enough = threading.Event()

    def unavailable() -> None:
        raise StorageUnavailable("The database does not answer.")

    def unforeseen() -> None:
        raise ValueError("a text")

    turns: list[Callable[[], None]] = [unavailable, unforeseen, enough.set]

    def do() -> None:
        done.append("")
        if turns:
            turns.pop(0)()

    work = Rounds("milling", do, 0.0)
    work.start()
    assert enough.wait(PATIENCE)
    work.stop()
    # Then it was done a third time; what nobody foresaw is told, and what waits for the database is not
    told = [record.getMessage() for record in caplog.records if record.name == rounds.logger.name]
    assert told == ["milling: a round failed"]
    count = len(done)
    assert count >= 3 and work.stopping.is_set() and not [t for t in threading.enumerate() if t.name == "milling"]
