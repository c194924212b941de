"""Whose fault it is: a text that fails costs itself alone, a device that fails costs no text."""

from __future__ import annotations

import itertools
import json
import math
import weakref
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from storage.contract.options import NO_POOLING, JobOptions
from storage.outcomes import ItemError
from tests.engine.watched import TEXTS, UNLIKE, MakeWatched, id_of, in_thread, tokens_of
from tests.models import WORDS, make_model
from worker.engine.call import Embedded
from worker.engine.checkpoint import resolve
from worker.engine.engine import Engine
from worker.engine.failures import EngineFailed
from worker.engine.waiting import WaitingRoom


@pytest.mark.scenario("F27")
def test_a_text_that_breaks_the_tokenizer_leaves_the_others_their_vectors(engine: Engine) -> None:
    found = engine.embed(["river", "\ud800", "mill"], JobOptions())
    assert {place: error.code for place, error in found.errors.items()} == {1: "tokenizer_failed"}
    np.testing.assert_allclose(found.vectors[[0, 2]], engine.embed(["river", "mill"], JobOptions()).vectors, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
def test_a_text_without_a_token_is_its_own_error_and_nobodys_vector(tmp_path: Path, pooling: str) -> None:
    # Given a tokenizer that adds no special tokens, and a text of which it keeps nothing
    folder = make_model(tmp_path, hidden=64, layers=1)
    written = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(written | {"post_processor": None}))
    engine = Engine(resolve(str(folder)), cores=1)
    # When it stands between others
    found = engine.embed(["river stone", "\u200d", "mill"], JobOptions(pooling=pooling))
    # Then it has an error, and no vector of theirs
    assert found.errors == {1: ItemError("tokenizer_failed", "The tokenizer finds no token in this text.")}
    assert np.isnan(found.vectors[1]).all() and found.tokens.tolist() == [2, 0, 1]
    wanted = engine.embed(["river stone", "mill"], JobOptions(pooling=pooling)).vectors
    np.testing.assert_allclose(found.vectors[[0, 2]], wanted, atol=1e-6)
    engine.stop(wait=10)


@pytest.mark.parametrize("nothing", ["", " ", "\ufeff", "\u200b", "\x00", "\u00ad\u200d", "\n\t"])
def test_a_text_that_special_tokens_alone_are_left_of_has_no_vector(engine: Engine, nothing: str) -> None:
    # Given a text of which the tokenizer keeps nothing, so that all such texts would share one vector
    found = engine.embed(["river stone", nothing, "mill"], JobOptions())
    # Then it has an error, no token is counted for it, and the others have their vectors
    assert found.errors == {1: ItemError("tokenizer_failed", "The tokenizer finds no token in this text.")}
    assert np.isnan(found.vectors[1]).all() and found.tokens.tolist() == [4, 0, 3]
    wanted = engine.embed(["river stone", "mill"], JobOptions()).vectors
    np.testing.assert_allclose(found.vectors[[0, 2]], wanted, atol=1e-6)
    # And so it is where the states of its tokens are asked for
    states = engine.embed([nothing, "mill"], JobOptions(pooling=NO_POOLING))
    assert list(states.errors) == [0] and len(states.vectors) == 3
    # But a prompt before it is content
    assert not engine.embed([nothing], JobOptions(prompt="river: ")).errors
    assert list(engine.embed([nothing], JobOptions(prompt="")).errors) == [0]


@pytest.mark.scenario("F27")
def test_one_text_that_fails_in_the_encoder_is_found_and_the_others_have_vectors(
    engine: Engine, watched: MakeWatched
) -> None:
    marker = id_of(engine, "thunder")

    def fail(ids: Tensor) -> None:
        if (ids == marker).any():
            raise RuntimeError("no thunder, please")

    sick, _ = watched(fail)
    texts = [text.replace("thunder", "horizon") for text in TEXTS]
    good = engine.embed(texts, JobOptions()).vectors
    texts[37] = "thunder"
    texts[99] = "the thunder and the river"
    found = sick.embed(texts, JobOptions())
    assert {place: error.code for place, error in found.errors.items()} == {37: "encoder_failed", 99: "encoder_failed"}
    assert found.errors[37].message == "The encoder failed on this text (RuntimeError)."
    others = [i for i in range(len(texts)) if i not in (37, 99)]
    np.testing.assert_allclose(found.vectors[others], good[others], atol=1e-5, rtol=0)
    assert np.isnan(found.vectors[[37, 99]]).all()
    assert found.tokens[37] == 0


def test_an_encoder_that_fails_on_everything_charges_no_text(watched: MakeWatched) -> None:
    def fail(ids: Tensor) -> None:
        raise RuntimeError("device lost")

    engine, _ = watched(fail)
    with pytest.raises(EngineFailed, match="fails on every text"):
        engine.embed(TEXTS, JobOptions())
    with pytest.raises(EngineFailed):
        engine.embed(["river"], JobOptions())


@pytest.mark.scenario("F30")
@pytest.mark.parametrize(
    "full",
    [
        torch.OutOfMemoryError("device full"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["torch", "cpu", "cuda", "driver", "cublas"],
)
def test_out_of_memory_halves_the_batches_and_charges_no_text(
    engine: Engine, watched: MakeWatched, full: Exception
) -> None:
    # Given a device that is full, as whoever asked it for memory tells
    def small_device(ids: Tensor) -> None:
        if tokens_of(ids) > 200:
            raise full

    small, encoder = watched(small_device)
    found = small.embed(TEXTS, JobOptions())
    assert not found.errors and set(small.counts) == {"budgets_halved"}
    np.testing.assert_allclose(found.vectors, engine.embed(TEXTS, JobOptions()).vectors, atol=1e-5, rtol=0)
    encoder.batches.clear()
    small.embed(TEXTS, JobOptions())
    assert max(sum(map(bool, chain(*batch))) for batch in encoder.batches) <= 256


@pytest.mark.scenario("F30")
def test_one_text_too_large_for_the_device_ends_the_engine_not_the_text(
    watched: MakeWatched,
) -> None:
    def tiny_device(ids: Tensor) -> None:
        if tokens_of(ids) > 3:
            raise torch.OutOfMemoryError("device full")

    engine, _ = watched(tiny_device)
    with pytest.raises(EngineFailed, match="no memory for one text of 7 tokens"):
        engine.embed(["river stone mill wheel grain"], JobOptions())


@pytest.mark.scenario("F27")
@pytest.mark.parametrize("count", [1, 2, 7, 64, 100])
@pytest.mark.parametrize("place", [0, -1])
def test_one_text_is_found_in_few_more_forward_passes(watched: MakeWatched, count: int, place: int) -> None:
    # Given texts of one length, so that they are one batch, one of which the encoder cannot stand
    def fail(ids: Tensor) -> None:
        if (ids == marker).any():
            raise RuntimeError("no thunder, please")

    engine, encoder = watched(fail)
    marker = id_of(engine, "thunder")
    texts = UNLIKE[:count]
    texts[place] = "thunder"
    # When they are embedded
    found = engine.embed(texts, JobOptions())
    # Then it alone has the error, and the cuts were as few as halving allows
    assert list(found.errors) == [place % count]
    assert int(np.isfinite(found.vectors).all(1).sum()) == count - 1
    assert len(encoder.batches[0]) == count
    assert len(encoder.batches) - 1 <= 2 * math.log2(count) + 3
    assert math.floor(math.log2(count)) <= engine.counts["batches_bisected"] <= math.ceil(math.log2(count))


@pytest.mark.scenario("F30")
def test_memory_runs_out_at_most_once_a_halving_and_not_again_at_once(
    engine: Engine, watched: MakeWatched, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a device with room for 100 tokens, and many batches of 1,024 planned at once
    monkeypatch.setattr("worker.engine.waiting._CALM", 10_000)
    failures: list[int] = []

    def small_device(ids: Tensor) -> None:
        if tokens_of(ids) > 100:
            failures.append(tokens_of(ids))
            raise torch.OutOfMemoryError("device full")

    small, _ = watched(small_device)
    texts = [f"{text} {word}" for word in WORDS[:3] for text in TEXTS]
    # When they are embedded
    found = small.embed(texts, JobOptions())
    # Then the budget was halved a few times, not once a batch, and every vector is right
    assert 1 <= len(failures) <= math.log2(1024)
    assert small.counts["budgets_halved"] == len(failures)
    assert not found.errors
    np.testing.assert_allclose(found.vectors, engine.embed(texts, JobOptions()).vectors, atol=1e-5, rtol=0)
    # And it is remembered
    failures.clear()
    small.embed(texts, JobOptions())
    assert failures == []


@pytest.mark.scenario("F30")
def test_batches_are_as_large_as_before_once_whoever_took_the_memory_has_gone(
    watched: MakeWatched, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a device whose memory others have taken, but for 100 tokens, so that batches were made small
    monkeypatch.setattr("worker.engine.waiting._CALM", 2)
    room, failures = [100], []

    def shared_device(ids: Tensor) -> None:
        if tokens_of(ids) > room[0]:
            failures.append(tokens_of(ids))
            raise torch.OutOfMemoryError("device full")

    shared, _ = watched(shared_device)
    texts = [f"{text} {word}" for word in WORDS[:3] for text in TEXTS]
    before = shared._room.budget
    shared.embed(texts, JobOptions())
    assert shared._room.budget < before
    # When they go, batches grow to what they were
    room[0] = 10_000
    for _ in range(100):
        if shared._room.budget == before:
            break
        shared.embed(texts, JobOptions())
    assert shared._room.budget == before


@pytest.mark.scenario("F30")
def test_a_budget_that_was_too_much_again_is_left_alone_for_longer() -> None:
    def batches_until_it_is_raised(room: WaitingRoom) -> int:
        before = room.budget
        for number in itertools.count(1):
            room.finished()
            if room.budget > before:
                return number
        raise AssertionError

    # Given a room whose budget was lowered, twice for the same want of memory
    room = WaitingRoom(1024, True)
    room.shrink(300)
    room.shrink(100)
    # When it is lowered again each time that it was raised, then it takes twice as long, up to a bound
    waits = []
    for _ in range(8):
        waits.append(batches_until_it_is_raised(room))
        assert room.budget == 200
        room.shrink(100)
    assert waits == [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
    # And where it stays, it grows to what it was and no further
    while room.budget < 1024:
        batches_until_it_is_raised(room)
    for _ in range(20_000):
        room.finished()
    assert room.budget == 1024


@pytest.mark.scenario("F30")
def test_a_failed_attempt_has_freed_its_tensors_before_the_next_begins(watched: MakeWatched) -> None:
    # Given a device that runs out of memory with a tensor in its hands
    held: list[weakref.ref[Tensor]] = []
    kept: list[bool] = []

    def small_device(ids: Tensor) -> None:
        kept.extend(ref() is not None for ref in held)
        if len(ids) > 1:
            states = torch.empty(1000)
            held.append(weakref.ref(states))
            raise torch.OutOfMemoryError("device full")

    engine, _ = watched(small_device)
    engine.embed(TEXTS[:8], JobOptions())
    # Then that tensor was gone whenever a smaller batch was tried
    assert len(kept) > 8 and not any(kept)


def _raise(ids: Tensor) -> Tensor:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def _garbage(ids: Tensor) -> Tensor:
    return torch.tensor(math.nan)


@pytest.mark.scenario("F31")
@pytest.mark.parametrize("broken", [_raise, _garbage])
def test_a_device_that_stays_broken_ends_every_call_and_delivers_nothing_wrong(
    engine: Engine, watched: MakeWatched, broken: object
) -> None:
    # Given a device that works for six batches and then never again
    seen: list[int] = []

    def break_down(ids: Tensor) -> object:
        seen.append(len(ids))
        if len(seen) <= 6:
            return None
        wrong = broken(ids)  # type: ignore[operator]
        return lambda states: states * wrong

    sick, _ = watched(break_down, budget=64, cores=2)
    ends: list[Embedded | EngineFailed] = []

    def embed() -> None:
        try:
            ends.append(sick.embed(TEXTS, JobOptions()))
        except EngineFailed as error:
            ends.append(error)

    first = sick.embed(TEXTS[:2], JobOptions())
    np.testing.assert_allclose(first.vectors, engine.embed(TEXTS[:2], JobOptions()).vectors, atol=1e-5, rtol=0)
    # When four calls are under way
    threads = [in_thread(embed) for _ in range(4)]
    for thread in threads:
        thread.join(60)
    # Then all of them end with the engine's failure, and no text is charged
    assert len(ends) == 4 and all(isinstance(end, EngineFailed) for end in ends)
    with pytest.raises(EngineFailed):
        sick.embed(["river"], JobOptions())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whatever_ends_an_engine_thread_ends_its_calls(watched: MakeWatched) -> None:
    def leave(ids: Tensor) -> None:
        raise SystemExit

    engine, _ = watched(leave)
    ends: list[str] = []

    def embed() -> None:
        try:
            engine.embed(["river"], JobOptions())
        except EngineFailed as error:
            ends.append(error.message)

    in_thread(embed).join(60)
    assert ends == ["SystemExit in the engine."]


def test_counts_are_taken_once(watched: MakeWatched) -> None:
    def fail(ids: Tensor) -> None:
        if (ids == marker).any():
            raise RuntimeError("no thunder, please")

    engine, _ = watched(fail)
    marker = id_of(engine, "thunder")
    assert engine.counts == {}
    engine.embed(["thunder", "river"], JobOptions())
    assert engine.counts == {"batches_bisected": 1}
    assert engine.take_counts() == {"batches_bisected": 1}
    assert engine.take_counts() == {} == engine.counts
