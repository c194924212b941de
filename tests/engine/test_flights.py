"""Batches launched ahead: each landed in its turn, failures seen to as ever, and progress that of the oldest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from storage.contract.options import JobOptions
from tests.engine.watched import TEXTS, UNLIKE, Watch, Watched, id_of, in_thread, tokens_of, until
from worker.engine.call import Embedded
from worker.engine.checkpoint import Checkpoint
from worker.engine.engine import Engine
from worker.engine.failures import EngineFailed, EngineStopped
from worker.engine.flight import Flight, Vectors

#: Makes an engine that launches ahead on one core, with small batches: a watch, and how many flights.
MakeAhead = Callable[..., tuple[Engine, Watched]]


@pytest.fixture
def ahead(checkpoint: Checkpoint) -> Iterator[MakeAhead]:
    made: list[Engine] = []

    def make(watch: Watch = lambda ids: None, flights: int = 2, dtype: str = "float32") -> tuple[Engine, Watched]:
        encoder = Watched(checkpoint, watch, dtype)
        made.append(Engine(checkpoint, token_budget=64, cores=1, encoder=encoder, flights=flights))
        return made[-1], encoder

    yield make
    for engine in made:
        engine.stop(wait=60)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to flights, as it happens."""
    events: list[str] = []
    launch, land = Flight.__init__, Flight.land

    def launched(self: Flight, *given: object) -> None:
        events.append("launch")
        launch(self, *given)  # type: ignore[arg-type]

    def landed(self: Flight) -> list[Vectors] | Exception:
        events.append("land")
        return land(self)

    monkeypatch.setattr(Flight, "__init__", launched)
    monkeypatch.setattr(Flight, "land", landed)
    return events


@pytest.mark.parametrize("flights", [1, 2, 3])
def test_a_batch_lands_when_enough_others_are_launched_after_it(
    engine: Engine, ahead: MakeAhead, log: list[str], flights: int
) -> None:
    # Given an engine that launches so many batches before it waits
    eager, encoder = ahead(flights=flights)
    found = eager.embed(TEXTS, JobOptions())
    # Then there were never more under way, as many whenever there was work, and none was left
    under_way = np.cumsum([1 if event == "launch" else -1 for event in log])
    assert under_way.max() == flights and under_way[-1] == 0
    assert log.count("launch") == len(encoder.batches) > 10
    assert (under_way[flights - 1 : -flights] >= flights - 1).all()
    # And every text has its vector
    np.testing.assert_allclose(found.vectors, engine.embed(TEXTS, JobOptions()).vectors, atol=1e-5, rtol=0)


def test_five_threads_each_get_their_own_rows(engine: Engine, ahead: MakeAhead) -> None:
    eager, _ = ahead(flights=3)
    wanted = {pooling: engine.embed(TEXTS, JobOptions(pooling=pooling)).vectors for pooling in ("mean", "max")}
    found: dict[int, np.ndarray] = {}

    def embed(number: int) -> None:
        options, rows = JobOptions(pooling="max" if number % 2 else "mean"), np.empty_like(wanted["mean"])
        for part in np.array_split(np.random.default_rng(number).permutation(len(TEXTS)), 7):
            rows[part] = eager.embed([TEXTS[i] for i in part], options, urgent=number == 4).vectors
        found[number] = rows

    for thread in [in_thread(lambda number=number: embed(number)) for number in range(5)]:
        thread.join(60)
    for number, rows in found.items():
        np.testing.assert_allclose(rows, wanted["max" if number % 2 else "mean"], atol=1e-5, rtol=0)
    assert len(found) == 5


@pytest.mark.scenario("F27")
def test_a_text_that_fails_between_flights_costs_itself_alone(engine: Engine, ahead: MakeAhead) -> None:
    # Given two texts that the encoder cannot stand, in batches launched ahead
    def fail(ids: Tensor) -> None:
        if (ids == marker).any():
            raise RuntimeError("no thunder, please")

    sick, _ = ahead(fail, flights=3)
    marker = id_of(sick, "thunder")
    texts = [text.replace("thunder", "horizon") for text in TEXTS]
    texts[37], texts[99] = "thunder", "the thunder and the river"
    found = sick.embed(texts, JobOptions())
    # Then they have their errors, and all others their vectors
    assert {place: error.code for place, error in found.errors.items()} == {37: "encoder_failed", 99: "encoder_failed"}
    others = [i for i in range(len(texts)) if i not in (37, 99)]
    wanted = engine.embed([texts[i] for i in others], JobOptions()).vectors
    np.testing.assert_allclose(found.vectors[others], wanted, atol=1e-5, rtol=0)


@pytest.mark.scenario("F30")
def test_what_failed_to_launch_is_seen_to_alone_on_the_device(ahead: MakeAhead, log: list[str]) -> None:
    # Given a device that has no room for the fourth batch
    launched: list[Tensor] = []

    def small_device(ids: Tensor) -> None:
        launched.append(ids)
        if len(launched) == 4:
            raise torch.OutOfMemoryError("device full")

    engine, _ = ahead(small_device, flights=3)
    found = engine.embed(TEXTS, JobOptions())
    # Then all those before it landed, then it, and only then it was tried again in halves
    assert log[:9] == ["launch", "launch", "launch", "land", "launch", "land", "land", "land", "launch"]
    assert not found.errors and np.isfinite(found.vectors).all()
    # And the budget was halved once, also for what had been planned before
    assert engine.counts == {"budgets_halved": 1}
    half = tokens_of(launched[3]) // 2
    assert all(tokens_of(ids) <= half or len(ids) == 1 for ids in launched[4:])


@pytest.mark.scenario("F31")
def test_a_batch_whose_failure_shows_only_when_it_lands_is_tried_again(
    engine: Engine, ahead: MakeAhead, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a device that reports a failure late, when the vectors are fetched
    land, failures = Flight.land, [3, 8]
    landings: list[int] = []

    def late(self: Flight) -> list[Vectors] | Exception:
        landings.append(len(self.batch))
        return RuntimeError("CUDA error") if len(landings) in failures else land(self)

    monkeypatch.setattr(Flight, "land", late)
    sick, _ = ahead()
    # When texts are embedded
    found = sick.embed(TEXTS, JobOptions())
    # Then no text is charged, and every vector is right
    monkeypatch.undo()
    assert not found.errors and sick.counts == {"batches_bisected": 2}
    np.testing.assert_allclose(found.vectors, engine.embed(TEXTS, JobOptions()).vectors, atol=1e-5, rtol=0)


@pytest.mark.scenario("F32")
def test_a_vector_refused_between_flights_is_computed_once_more_alone(engine: Engine, ahead: MakeAhead) -> None:
    def spoil(ids: Tensor) -> Callable[[Tensor], Tensor] | None:
        bad = (ids == marker).any(1)[:, None, None]
        return (lambda states: states.masked_fill(bad, torch.nan)) if len(ids) > 1 else None

    sick, _ = ahead(spoil)
    marker = id_of(sick, "violin")
    texts = [*TEXTS[:40], "the violin", *TEXTS[40:80]]
    found = sick.embed(texts, JobOptions())
    assert not found.errors and sick.counts["vectors_refused"] >= 1
    np.testing.assert_allclose(found.vectors, engine.embed(texts, JobOptions()).vectors, atol=1e-5, rtol=0)


@pytest.mark.scenario("F31")
def test_a_device_that_breaks_with_flights_under_way_ends_every_call_and_charges_no_text(ahead: MakeAhead) -> None:
    seen: list[int] = []

    def break_down(ids: Tensor) -> None:
        seen.append(len(ids))
        if len(seen) > 6:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    engine, _ = ahead(break_down, flights=3)
    ends: list[Embedded | EngineFailed] = []

    def embed() -> None:
        try:
            ends.append(engine.embed(TEXTS, JobOptions()))
        except EngineFailed as error:
            ends.append(error)

    for thread in [in_thread(embed) for _ in range(4)]:
        thread.join(60)
    assert len(ends) == 4 and all(isinstance(end, EngineFailed) for end in ends)
    # And nothing of it looks as if it hung
    before = engine.progress
    time.sleep(0.05)
    assert engine.progress >= before + 0.05


@pytest.mark.scenario("F33")
def test_progress_stands_where_the_oldest_flight_began(ahead: MakeAhead, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a device that never ends its first batch
    gate, waiting, land = threading.Event(), threading.Event(), Flight.land

    def hang(self: Flight) -> list[Vectors] | Exception:
        waiting.set()
        gate.wait(100)
        return land(self)

    begun: list[float] = []

    def watch(ids: Tensor) -> None:
        begun.append(engine.progress)
        time.sleep(0.01)

    monkeypatch.setattr(Flight, "land", hang)
    engine, encoder = ahead(watch, flights=3)
    thread = in_thread(lambda: engine.embed(TEXTS, JobOptions()))
    assert waiting.wait(60)
    # Then launching others after it was no progress
    assert len(encoder.batches) == 3 and set(begun) == {engine.progress}
    assert engine.progress <= time.monotonic() - 0.03
    # When it ends after all
    opened = time.monotonic()
    gate.set()
    thread.join(60)
    # Then the clock of those behind it began when it was done, not when they were launched
    assert all(since >= opened for since in begun[3:])
    until(lambda: engine.progress > opened + 0.05)


def test_a_stopped_engine_lands_what_is_under_way_and_launches_no_more(
    ahead: MakeAhead, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    gate, land = threading.Event(), Flight.land

    def wait(self: Flight) -> list[Vectors] | Exception:
        gate.wait(100)
        return land(self)

    monkeypatch.setattr(Flight, "land", wait)
    engine, encoder = ahead(flights=2)
    ends: list[type[BaseException]] = []

    def embed() -> None:
        try:
            engine.embed(TEXTS, JobOptions())
        except EngineStopped as error:
            ends.append(type(error))

    thread = in_thread(embed)
    until(lambda: len(encoder.batches) == 2)
    engine.stop()
    thread.join(60)
    assert ends == [EngineStopped]
    gate.set()
    engine.stop(wait=60)
    assert not any(thread.is_alive() for thread in engine._threads)
    assert log == ["launch", "launch", "land", "land"]


def test_an_urgent_text_is_launched_next_after_those_under_way(
    ahead: MakeAhead, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, land = threading.Semaphore(0), Flight.land

    def wait(self: Flight) -> list[Vectors] | Exception:
        gate.acquire(timeout=100)
        return land(self)

    monkeypatch.setattr(Flight, "land", wait)
    engine, encoder = ahead(flights=2)
    bulk = in_thread(lambda: engine.embed(TEXTS, JobOptions()))
    until(lambda: len(encoder.batches) == 2)
    urgent = in_thread(lambda: engine.embed(["telescope"], JobOptions(), urgent=True))
    until(lambda: engine._room._urgent)
    gate.release(3)
    urgent.join(60)
    assert not urgent.is_alive() and bulk.is_alive()
    assert id_of(engine, "telescope") in encoder.batches[2][0]
    gate.release(1000)
    bulk.join(60)
    assert not bulk.is_alive()


def test_what_comes_while_a_flight_is_waited_for_is_launched_before_the_next_is(
    ahead: MakeAhead, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two flights under way and nothing behind them, the first of which is waited for
    gate, waiting, land = threading.Semaphore(0), threading.Event(), Flight.land

    def wait(self: Flight) -> list[Vectors] | Exception:
        waiting.set()
        gate.acquire(timeout=100)
        return land(self)

    monkeypatch.setattr(Flight, "land", wait)
    engine, encoder = ahead(flights=3)
    bulk = in_thread(lambda: engine.embed(UNLIKE[:30], JobOptions()))
    assert waiting.wait(60) and len(encoder.batches) == 2
    # When another text comes, and the first flight has landed
    urgent = in_thread(lambda: engine.embed(["telescope"], JobOptions(), urgent=True))
    until(lambda: engine._room._urgent)
    gate.release()
    # Then the device has its work before the second flight has landed
    until(lambda: len(encoder.batches) == 3)
    gate.release(1000)
    for thread in (bulk, urgent):
        thread.join(60)
        assert not thread.is_alive()
