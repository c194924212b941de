"""Progress stands still while anything hangs, whatever else goes on, and never while there is nothing to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from torch import Tensor

from storage.contract.options import JobOptions
from tests.engine.watched import TEXTS, UNLIKE, MakeWatched, id_of, in_thread, until
from worker.engine.engine import Engine


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a test hangs at; opened in the end."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.scenario("F33")
def test_progress_stands_still_while_a_batch_hangs_and_never_while_idle(
    watched: MakeWatched, gate: threading.Event
) -> None:
    engine, encoder = watched(lambda ids: gate.wait(100) and None)
    idle = engine.progress
    time.sleep(0.05)
    assert engine.progress >= idle + 0.05
    thread = in_thread(lambda: engine.embed(["river"], JobOptions()))
    until(lambda: encoder.batches)
    stuck = engine.progress
    # Also while other calls keep arriving
    others = [in_thread(lambda: engine.embed(TEXTS, JobOptions())) for _ in range(3)]
    until(lambda: len(engine._room._bulk) == 3)
    time.sleep(0.05)
    assert engine.progress == stuck
    gate.set()
    for each in (thread, *others):
        each.join(60)
    until(lambda: engine.progress > stuck + 0.05)


@pytest.mark.scenario("F33")
def test_one_hanging_thread_of_two_shows_while_the_other_works_on(watched: MakeWatched, gate: threading.Event) -> None:
    # Given an engine on two cores, one of which hangs on a text
    def hang(ids: Tensor) -> None:
        if (ids == marker).any():
            hung.set()
            gate.wait(100)
        elif not gate.is_set():
            seen.append(engine.progress)

    seen: list[float] = []
    engine, encoder = watched(hang, cores=2)
    marker, hung = id_of(engine, "thunder"), threading.Event()
    thread = in_thread(lambda: engine.embed(["thunder"], JobOptions()))
    assert hung.wait(60)
    stuck = engine.progress
    # When the other works call after call off
    for _ in range(3):
        engine.embed(TEXTS[:5], JobOptions())
        # Then progress is that of the one that hangs, during each batch and between them
        assert engine.progress == stuck
    assert len(encoder.batches) >= 4 and set(seen) == {stuck}
    # And goes on with it
    gate.set()
    thread.join(60)
    until(lambda: engine.progress > stuck + 0.05)


class Endless(list[str]):
    """Texts that the tokenizer never comes to an end with."""

    def __init__(self, texts: list[str], gate: threading.Event) -> None:
        super().__init__(texts)
        self.begun = threading.Event()
        self._gate = gate

    def __iter__(self) -> Iterator[str]:
        self.begun.set()
        self._gate.wait(100)
        return super().__iter__()


@pytest.mark.scenario("F33")
def test_a_hang_in_the_tokenizer_shows_while_other_calls_are_worked_off(engine: Engine, gate: threading.Event) -> None:
    # Given a call that hangs before its encodings are put into the room
    texts = Endless(["river"], gate)
    thread = in_thread(lambda: engine.embed(texts, JobOptions()))
    assert texts.begun.wait(60)
    stuck = engine.progress
    # When other calls come and go
    for _ in range(3):
        engine.embed(TEXTS[:5], JobOptions())
        # Then progress stands where that call began
        assert engine.progress == stuck
    gate.set()
    thread.join(60)
    until(lambda: engine.progress > stuck + 0.05)


def test_a_tokenizer_that_fails_leaves_no_hang_behind(engine: Engine) -> None:
    with pytest.raises(TypeError):
        engine.embed([None], JobOptions(prompt="a "))  # type: ignore[list-item]
    before = engine.progress
    time.sleep(0.05)
    assert engine.progress >= before + 0.05


def test_every_part_of_a_batch_that_is_cut_in_pieces_is_progress(watched: MakeWatched) -> None:
    # Given an encoder that takes one text at a time
    seen: list[float] = []

    def one_by_one(ids: Tensor) -> None:
        seen.append(engine.progress)
        time.sleep(0.001)
        if len(ids) > 1:
            raise RuntimeError("one at a time, please")

    engine, _ = watched(one_by_one)
    # When a batch of it is taken apart
    assert not engine.embed(UNLIKE[:16], JobOptions()).errors
    # Then progress came on with each part
    assert len(seen) == 31 and seen == sorted(set(seen))


def test_a_stopped_engine_that_hangs_nowhere_has_nothing_to_do(watched: MakeWatched, gate: threading.Event) -> None:
    # Given calls that wait behind a batch when the engine is stopped
    engine, encoder = watched(lambda ids: gate.wait(100) and None, budget=64)

    def embed() -> None:
        with pytest.raises(Exception, match="stopped"):
            engine.embed(TEXTS, JobOptions())

    threads = [in_thread(embed) for _ in range(3)]
    until(lambda: encoder.batches)
    stuck = engine.progress
    engine.stop()
    # Then its batch still shows that it hangs, and once it is done nothing is left to wait for
    assert engine.progress == stuck
    gate.set()
    for thread in threads:
        thread.join(60)
    engine.stop(wait=30)
    before = engine.progress
    time.sleep(0.05)
    assert engine.progress >= before + 0.05
