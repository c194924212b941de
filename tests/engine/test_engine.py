"""The engine under many threads: every call its own rows, shared batches, urgent texts first, an end on demand."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from storage.contract.errors import InvalidOption
from storage.contract.options import JobOptions
from tests.engine.watched import TEXTS, UNLIKE, MakeWatched, id_of, in_thread, tokens_of, until
from tests.models import WORDS, add_layout
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.encoder import Encoder
from worker.engine.engine import Engine
from worker.engine.failures import EngineStopped


def test_five_threads_each_get_their_own_rows(engine: Engine) -> None:
    alone = {
        pooling: np.concatenate([engine.embed([text], JobOptions(pooling=pooling)).vectors for text in TEXTS])
        for pooling in ("mean", "cls")
    }
    jobs = [
        (JobOptions(), alone["mean"]),
        (JobOptions(pooling="cls"), alone["cls"]),
        (JobOptions(padding="max_length", max_length=64), alone["mean"]),
        (JobOptions(dimensions=8, normalize=False), alone["mean"][:, :8]),
        (JobOptions(), alone["mean"]),
    ]
    found: dict[int, np.ndarray] = {}

    def embed(number: int) -> None:
        order = np.random.default_rng(number).permutation(len(TEXTS))
        rows = np.empty_like(jobs[number][1])
        for part in np.array_split(order, 7):
            texts = [TEXTS[i] for i in part]
            rows[part] = engine.embed(texts, jobs[number][0], urgent=number == 4).vectors
        found[number] = rows

    threads = [in_thread(lambda number=number: embed(number)) for number in range(5)]
    for thread in threads:
        thread.join(60)
    for number, (_, expected) in enumerate(jobs):
        np.testing.assert_allclose(found[number], expected, atol=1e-5, rtol=0)


def test_each_core_works_on_a_batch_of_its_own(watched: MakeWatched) -> None:
    # Given an engine on two cores, where no batch goes on before another has come
    both = threading.Barrier(2, timeout=60)
    tickets, waited = itertools.count(), []

    def meet(ids: Tensor) -> None:
        if next(tickets) < 2:
            waited.append(both.wait())

    engine, encoder = watched(meet, 64, 2)
    # When one call brings many batches
    found = engine.embed(TEXTS, JobOptions())
    # Then two were under way at once, and every text has its vector
    assert sorted(waited) == [0, 1] and len(encoder.batches) > 10
    assert np.isfinite(found.vectors).all() and not found.errors


def test_the_last_batch_is_shared_by_the_cores(watched: MakeWatched) -> None:
    # Given texts that make one batch, and an engine on two cores where nothing goes on before both have something
    both = threading.Barrier(2, timeout=60)
    tickets, met = itertools.count(), []

    def meet(ids: Tensor) -> None:
        if next(tickets) < 2:
            met.append(both.wait())

    engine, encoder = watched(meet, 4096, 2)
    found = engine.embed([" ".join([word, *WORDS[:17]]) for word in UNLIKE[:100]], JobOptions())
    # Then neither was left idle, and every text has its vector
    assert sorted(met) == [0, 1]
    assert np.isfinite(found.vectors).all() and max(len(batch) for batch in encoder.batches) == 50


def test_the_batches_of_a_deterministic_call_follow_from_its_texts_alone(watched: MakeWatched) -> None:
    # Given what a call's batches are on one core with nobody else, and an engine on two that is kept busy by others
    texts, options = TEXTS[:100], JobOptions(deterministic=True)
    engine, encoder = watched(lambda ids: None, 640, 1)
    alone = engine.embed(texts, options).vectors
    expected = sorted(encoder.batches)
    gate = threading.Semaphore(0)
    engine, encoder = watched(lambda ids: gate.acquire(timeout=100) and None, 640, 2)
    first = in_thread(lambda: engine.embed(TEXTS[100:], JobOptions()))
    until(lambda: len(encoder.batches) == 2)
    kinds = (options, JobOptions())
    others = [in_thread(lambda kind=kind: engine.embed(TEXTS[100:120], kind)) for kind in kinds]
    until(lambda: len(engine._room._bulk) == 2)
    # When it is embedded among them, and again when they are gone, so that a core is idle at its end
    found: list[np.ndarray] = []
    mine = in_thread(lambda: found.append(engine.embed(texts, options).vectors))
    until(lambda: len(engine._room._bulk) == 3)
    gate.release(10_000)
    for thread in (first, *others, mine):
        thread.join(60)
    among = [batch for batch in encoder.batches if batch in expected]
    encoder.batches.clear()
    found.append(engine.embed(texts, options).vectors)
    # Then its batches are the same each time, and so are its vectors, to the last bit
    assert sorted(among) == expected and sorted(encoder.batches) == expected
    assert all(np.array_equal(vectors, alone) for vectors in found)


def test_calls_of_several_threads_share_batches(watched: MakeWatched) -> None:
    gate = threading.Event()
    engine, encoder = watched(lambda ids: gate.wait(100) and None)
    threads = [in_thread(lambda i=i: engine.embed([WORDS[i]], JobOptions())) for i in range(5)]
    while not encoder.batches or len(engine._room._bulk) < 5 - len(encoder.batches[0]):
        time.sleep(0.01)
    gate.set()
    for thread in threads:
        thread.join(60)
    assert len(encoder.batches) <= 2


def test_tokens_and_lengths_say_what_was_cut(engine: Engine) -> None:
    found = engine.embed(["river", "river stone mill wheel grain"], JobOptions(max_length=4))
    assert (found.tokens.tolist(), found.lengths.tolist()) == ([3, 4], [3, 7])
    assert (found.vectors.dtype, found.tokens.dtype, found.lengths.dtype) == (np.float32, np.int32, np.int32)


def test_texts_that_are_alike_are_embedded_once(watched: MakeWatched) -> None:
    # Given texts of which some come again, one of them too long, and what each brings alone
    engine, encoder = watched(lambda ids: None)
    long = " ".join(WORDS[:20])
    texts = ["river", long, "mill", "river", long, "stone", "river"]
    options = JobOptions(max_length=8, on_long="error")
    expected = engine.embed(["river", "mill", "stone"], options).vectors[[0, 1, 0, 2, 0]]
    encoder.batches.clear()
    # When they are embedded together
    found = engine.embed(texts, options)
    # Then every place has its outcome, and the encoder has seen each text once
    np.testing.assert_allclose(found.vectors[[0, 2, 3, 5, 6]], expected, atol=1e-6)
    assert {place: error.code for place, error in found.errors.items()} == {1: "too_long", 4: "too_long"}
    assert (found.tokens.tolist(), found.lengths.tolist()) == ([3, 0, 3, 3, 0, 3, 3], [3, 22, 3, 3, 22, 3, 3])
    assert sorted(len(batch) for batch in encoder.batches) in ([3], [1, 2])


def test_no_texts_give_an_empty_matrix(engine: Engine) -> None:
    found = engine.embed([], JobOptions(dimensions=8))
    assert (found.vectors.shape, found.tokens.shape, found.errors) == ((0, 8), (0,), {})


def test_a_long_text_is_an_error_where_the_job_says_so(engine: Engine) -> None:
    texts = ["river", " ".join(WORDS[:20]), "mill"]
    found = engine.embed(texts, JobOptions(max_length=8, on_long="error"))
    assert found.errors[1].code == "too_long"
    assert found.errors[1].message == "The text has 22 tokens, more than 8."
    assert list(found.errors) == [1]
    assert (found.tokens.tolist(), found.lengths.tolist()) == ([3, 0, 3], [3, 22, 3])
    np.testing.assert_allclose(found.vectors[[0, 2]], engine.embed(["river", "mill"], JobOptions()).vectors, atol=1e-6)
    assert np.isnan(found.vectors[1]).all()


def test_only_errors_need_no_device(engine: Engine) -> None:
    found = engine.embed(["\ud800"], JobOptions())
    assert list(found.errors) == [0] and np.isnan(found.vectors).all()


@pytest.mark.parametrize(
    "options", [JobOptions(layer=3), JobOptions(dimensions=65), JobOptions(max_length=513), JobOptions(prompt_name="x")]
)
def test_options_that_do_not_fit_the_model_are_refused(engine: Engine, options: JobOptions) -> None:
    with pytest.raises(InvalidOption):
        engine.embed(["river"], options)


def test_int8_is_not_a_dtype_of_torchs_encoder(checkpoint: Checkpoint) -> None:
    with pytest.raises(InvalidOption, match="dtype must be one of auto, float32, bfloat16, float16"):
        Encoder(checkpoint, dtype="int8")


def test_an_id_beyond_the_weights_costs_only_its_text(tiny: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    engine = Engine(resolve(str(folder)))
    engine._tokenizer._tokenizer.add_tokens(["zyzzyva"])
    found = engine.embed(["river", "a zyzzyva", "mill"], JobOptions())
    assert {place: error.code for place, error in found.errors.items()} == {1: "encoder_failed"}
    assert np.isfinite(found.vectors[[0, 2]]).all()
    engine.stop(wait=60)


def test_stop_ends_running_and_later_calls(watched: MakeWatched) -> None:
    gate = threading.Event()
    engine, encoder = watched(lambda ids: gate.wait(100) and None)
    ends: list[type[BaseException]] = []

    def embed() -> None:
        try:
            engine.embed(TEXTS, JobOptions())
        except EngineStopped as error:
            ends.append(type(error))

    thread = in_thread(embed)
    while not encoder.batches:
        time.sleep(0.01)
    engine.stop()
    thread.join(60)
    assert ends == [EngineStopped]
    with pytest.raises(EngineStopped):
        engine.embed(["river"], JobOptions())
    gate.set()
    engine.stop(wait=60)
    assert not any(thread.is_alive() for thread in engine._threads)
    assert len(encoder.batches) == 1


def test_an_urgent_text_waits_for_no_batch_under_way(watched: MakeWatched) -> None:
    # Given a batch that is not let through
    gate = threading.Semaphore(0)
    engine, encoder = watched(lambda ids: gate.acquire(timeout=100) and None if tokens_of(ids) > 3 else None, 64)
    bulk = in_thread(lambda: engine.embed(TEXTS, JobOptions()))
    until(lambda: encoder.batches)
    # When an urgent text comes, then it is embedded beside that batch
    urgent = in_thread(lambda: engine.embed(["telescope"], JobOptions(), urgent=True))
    urgent.join(60)
    assert not urgent.is_alive() and bulk.is_alive()
    gate.release(1000)
    bulk.join(60)
    assert len(encoder.batches) > 10


def test_urgent_texts_are_next_where_every_thread_is_busy(watched: MakeWatched) -> None:
    # Given a bulk batch and an urgent one under way
    gate = threading.Semaphore(0)
    engine, encoder = watched(lambda ids: gate.acquire(timeout=100) and None, 64)
    bulk = in_thread(lambda: engine.embed(TEXTS, JobOptions()))
    until(lambda: len(encoder.batches) == 1)
    first = in_thread(lambda: engine.embed(["river"], JobOptions(), urgent=True))
    until(lambda: len(encoder.batches) == 2)
    # When one more urgent text comes, and one of the batches ends
    second = in_thread(lambda: engine.embed(["telescope"], JobOptions(), urgent=True))
    until(lambda: engine._room._urgent)
    gate.release()
    # Then it is next
    until(lambda: len(encoder.batches) == 3)
    marker = id_of(engine, "telescope")
    assert len(encoder.batches[2]) == 1 and marker in encoder.batches[2][0]
    gate.release(1000)
    for thread in (bulk, first, second):
        thread.join(60)
        assert not thread.is_alive()


def test_the_default_prompt_is_put_before_texts_unless_the_job_has_its_own(tiny: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    add_layout(folder, prompts={"query": "river ", "none": ""}, default_prompt_name="query")
    engine = Engine(resolve(str(folder)))
    lengths = {
        name: int(engine.embed(["mill"], options).lengths[0])
        for name, options in {
            "default": JobOptions(),
            "named": JobOptions(prompt_name="none"),
            "own": JobOptions(prompt="the the "),
        }.items()
    }
    assert lengths == {"default": 4, "named": 3, "own": 5}
    engine.stop(wait=60)


def test_the_budget_counts_padding_only_where_there_is_any(watched: MakeWatched) -> None:
    # Given texts of 3 and of 42 tokens, and an engine that packs batches of 90 tokens
    engine, encoder = watched(lambda ids: None, budget=90)
    texts = [" ".join(WORDS[:40]), "river", "mill", " ".join(WORDS[40:80]), "stone"]
    # When they are embedded with and without padding
    engine.embed(texts, JobOptions())
    packed = [len(batch) for batch in encoder.batches]
    encoder.batches.clear()
    engine.embed(texts, JobOptions(padding="max_length", max_length=45))
    # Then real tokens fill a batch, or padded ones
    assert packed == [4, 1]
    assert sorted(len(batch) for batch in encoder.batches) == [1, 2, 2]
