"""The engine under many threads, and with texts, networks and devices that misbehave."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from storage.contract.errors import InvalidOption
from storage.contract.options import JobOptions
from tests.models import CHARACTERS, WORDS, add_layout
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.encoder import Encoder
from worker.engine.engine import Engine, EngineFailed, EngineStopped

TEXTS = [" ".join(WORDS[i % 40 : i % 40 + i % 23 + 1]) + CHARACTERS[i % 40] for i in range(150)]


class Watched(Encoder):
    """A real encoder that shows every batch to a test before it does its work.

    Args:
        checkpoint: What to load.
        watch: Is given the ids of every batch, and may raise, or return what is to be done to the states.
    """

    def __init__(self, checkpoint: Checkpoint, watch: Callable[[Tensor], Callable[[Tensor], Tensor] | None]) -> None:
        super().__init__(checkpoint)
        self.watch = watch
        self.batches: list[list[list[int]]] = []

    def forward(self, ids: Tensor, mask: Tensor | None, layer: int) -> Tensor:
        self.batches.append(ids.tolist())
        change = self.watch(ids)
        states = super().forward(ids, mask, layer)
        return change(states) if change else states


@pytest.fixture(scope="module")
def checkpoint(tiny: Path) -> Checkpoint:
    return resolve(str(tiny))


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint) -> Iterator[Engine]:
    engine = Engine(checkpoint)
    yield engine
    engine.stop(wait=10)


@pytest.fixture
def watched(checkpoint: Checkpoint) -> Iterator[Callable[..., tuple[Engine, Watched]]]:
    """Makes engines over a watched encoder, and stops them."""
    made: list[Engine] = []

    def make(
        watch: Callable[[Tensor], Callable[[Tensor], Tensor] | None], budget: int = 1024, cores: int = 1
    ) -> tuple[Engine, Watched]:
        encoder = Watched(checkpoint, watch)
        made.append(Engine(checkpoint, token_budget=budget, cores=cores, encoder=encoder))
        return made[-1], encoder

    yield make
    for engine in made:
        engine.stop(wait=10)


def id_of(engine: Engine, word: str) -> int:
    return engine._tokenizer.describe(word, 8).ids[1]


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


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


def test_each_core_works_on_a_batch_of_its_own(watched: Callable[..., tuple[Engine, Watched]]) -> None:
    # Given an engine on two cores, where no batch goes on before another has come
    both = threading.Barrier(2, timeout=30)
    waited: list[int] = []

    def meet(ids: Tensor) -> None:
        if len(waited) < 2:
            waited.append(both.wait())

    engine, encoder = watched(meet, 64, 2)
    # When one call brings many batches
    found = engine.embed(TEXTS, JobOptions())
    # Then two were under way at once, and every text has its vector
    assert sorted(waited) == [0, 1] and len(encoder.batches) > 10
    assert np.isfinite(found.vectors).all() and not found.errors


def test_the_last_batch_is_shared_by_the_cores(watched: Callable[..., tuple[Engine, Watched]]) -> None:
    # Given texts that make one batch, and an engine on two cores where nothing goes on before both have something
    both = threading.Barrier(2, timeout=30)
    met: list[int] = []

    def meet(ids: Tensor) -> None:
        if len(met) < 2:
            met.append(both.wait())

    engine, encoder = watched(meet, 4096, 2)
    found = engine.embed([" ".join(WORDS[:18])] * 100, JobOptions())
    # Then neither was left idle, and every text has its vector
    assert sorted(met) == [0, 1]
    assert np.isfinite(found.vectors).all() and max(len(batch) for batch in encoder.batches) == 50


def test_calls_of_several_threads_share_batches(watched: Callable[..., tuple[Engine, Watched]]) -> None:
    gate = threading.Event()
    engine, encoder = watched(lambda ids: gate.wait(10) and None)
    threads = [in_thread(lambda i=i: engine.embed([WORDS[i]], JobOptions())) for i in range(5)]
    while not encoder.batches or len(engine._room._bulk) < 5 - len(encoder.batches[0]):
        time.sleep(0.01)
    gate.set()
    for thread in threads:
        thread.join(10)
    assert len(encoder.batches) <= 2


def test_tokens_and_lengths_say_what_was_cut(engine: Engine) -> None:
    found = engine.embed(["river", "river stone mill wheel grain"], JobOptions(max_length=4))
    assert (found.tokens.tolist(), found.lengths.tolist()) == ([3, 4], [3, 7])
    assert (found.vectors.dtype, found.tokens.dtype, found.lengths.dtype) == (np.float32, np.int32, np.int32)


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


def test_a_text_that_breaks_the_tokenizer_leaves_the_others_their_vectors(engine: Engine) -> None:
    found = engine.embed(["river", "\ud800", "mill"], JobOptions())
    assert {place: error.code for place, error in found.errors.items()} == {1: "tokenizer_failed"}
    np.testing.assert_allclose(found.vectors[[0, 2]], engine.embed(["river", "mill"], JobOptions()).vectors, atol=1e-6)


def test_only_errors_need_no_device(engine: Engine) -> None:
    found = engine.embed(["\ud800"], JobOptions())
    assert list(found.errors) == [0] and np.isnan(found.vectors).all()


@pytest.mark.parametrize(
    "options", [JobOptions(layer=3), JobOptions(dimensions=65), JobOptions(max_length=513), JobOptions(prompt_name="x")]
)
def test_options_that_do_not_fit_the_model_are_refused(engine: Engine, options: JobOptions) -> None:
    with pytest.raises(InvalidOption):
        engine.embed(["river"], options)


def test_int8_is_not_a_dtype_of_the_encoder(checkpoint: Checkpoint) -> None:
    with pytest.raises(InvalidOption, match="dtype must be one of auto, float32, bfloat16, float16"):
        Engine(checkpoint, dtype="int8")


def test_an_id_beyond_the_weights_costs_only_its_text(tiny: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    engine = Engine(resolve(str(folder)))
    engine._tokenizer._tokenizer.add_tokens(["zyzzyva"])
    found = engine.embed(["river", "a zyzzyva", "mill"], JobOptions())
    assert {place: error.code for place, error in found.errors.items()} == {1: "encoder_failed"}
    assert np.isfinite(found.vectors[[0, 2]]).all()
    engine.stop(wait=10)


def test_stop_ends_running_and_later_calls(watched: Callable[..., tuple[Engine, Watched]]) -> None:
    gate = threading.Event()
    engine, encoder = watched(lambda ids: gate.wait(10) and None)
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
    thread.join(5)
    assert ends == [EngineStopped]
    with pytest.raises(EngineStopped):
        engine.embed(["river"], JobOptions())
    gate.set()
    engine.stop(wait=10)
    assert not any(thread.is_alive() for thread in engine._threads)
    assert len(encoder.batches) == 1


def test_an_urgent_text_is_next_after_the_batch_under_way(watched: Callable[..., tuple[Engine, Watched]]) -> None:
    gate = threading.Semaphore(0)
    engine, encoder = watched(lambda ids: gate.acquire(timeout=10) and None, 64)
    bulk = in_thread(lambda: engine.embed(TEXTS, JobOptions()))
    while not encoder.batches:
        time.sleep(0.01)
    urgent = in_thread(lambda: engine.embed(["telescope"], JobOptions(), urgent=True))
    while not engine._room._urgent:
        time.sleep(0.01)
    gate.release(2)
    urgent.join(5)
    assert not urgent.is_alive() and bulk.is_alive()
    marker = id_of(engine, "telescope")
    assert len(encoder.batches[1]) == 1 and marker in encoder.batches[1][0]
    gate.release(1000)
    bulk.join(20)
    assert len(encoder.batches) > 10


def test_one_text_that_fails_in_the_encoder_is_found_and_the_others_have_vectors(
    engine: Engine, watched: Callable[..., tuple[Engine, Watched]]
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


def test_an_encoder_that_fails_on_everything_charges_no_text(watched: Callable[..., tuple[Engine, Watched]]) -> None:
    def fail(ids: Tensor) -> None:
        raise RuntimeError("device lost")

    engine, _ = watched(fail)
    with pytest.raises(EngineFailed, match="fails on every text"):
        engine.embed(TEXTS, JobOptions())
    with pytest.raises(EngineFailed):
        engine.embed(["river"], JobOptions())


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_bad_vector_is_its_texts_error(
    engine: Engine, watched: Callable[..., tuple[Engine, Watched]], value: float, normalize: bool
) -> None:
    marker = id_of(engine, "violin")

    def spoil(ids: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda states: states.masked_fill((ids == marker).any(1)[:, None, None], value)

    sick, encoder = watched(spoil)
    found = sick.embed(["river", "violin", "mill"], JobOptions(normalize=normalize))
    assert {place: error.code for place, error in found.errors.items()} == {1: "bad_vector"}
    assert np.isnan(found.vectors[1]).all() and np.isfinite(found.vectors[[0, 2]]).all()
    assert [len(batch) for batch in encoder.batches] == [3, 1]


def test_a_vector_that_is_bad_only_in_company_is_saved_by_a_second_try(
    engine: Engine, watched: Callable[..., tuple[Engine, Watched]]
) -> None:
    def spoil_first_of_many(ids: Tensor) -> Callable[[Tensor], Tensor] | None:
        return (lambda states: states.index_fill(0, torch.tensor([0]), math.nan)) if len(ids) > 1 else None

    sick, _ = watched(spoil_first_of_many)
    found = sick.embed(TEXTS, JobOptions())
    assert not found.errors
    np.testing.assert_allclose(found.vectors, engine.embed(TEXTS, JobOptions()).vectors, atol=1e-5, rtol=0)


def test_a_vector_that_float16_cannot_keep_is_bad_only_for_a_job_that_keeps_float16(
    watched: Callable[..., tuple[Engine, Watched]],
) -> None:
    huge, _ = watched(lambda ids: lambda states: states * 1e6)
    assert not huge.embed(["river"], JobOptions(normalize=False)).errors
    assert not huge.embed(["river"], JobOptions(normalize=True, store_dtype="float16")).errors
    found = huge.embed(["river"], JobOptions(normalize=False, store_dtype="float16"))
    assert found.errors[0].code == "bad_vector"


def test_out_of_memory_halves_the_batches_and_charges_no_text(
    engine: Engine, watched: Callable[..., tuple[Engine, Watched]]
) -> None:
    def small_device(ids: Tensor) -> None:
        if ids.numel() > 200:
            raise torch.OutOfMemoryError("device full")

    small, encoder = watched(small_device)
    found = small.embed(TEXTS, JobOptions())
    assert not found.errors
    np.testing.assert_allclose(found.vectors, engine.embed(TEXTS, JobOptions()).vectors, atol=1e-5, rtol=0)
    encoder.batches.clear()
    small.embed(TEXTS, JobOptions())
    assert max(len(batch) * len(batch[0]) for batch in encoder.batches) <= 256


def test_one_text_too_large_for_the_device_ends_the_engine_not_the_text(
    watched: Callable[..., tuple[Engine, Watched]],
) -> None:
    def tiny_device(ids: Tensor) -> None:
        if ids.numel() > 3:
            raise torch.OutOfMemoryError("device full")

    engine, _ = watched(tiny_device)
    with pytest.raises(EngineFailed, match="no memory for one text of 7 tokens"):
        engine.embed(["river stone mill wheel grain"], JobOptions())


def test_progress_stands_still_while_a_batch_hangs_and_never_while_idle(
    watched: Callable[..., tuple[Engine, Watched]],
) -> None:
    gate = threading.Event()
    engine, encoder = watched(lambda ids: gate.wait(10) and None)
    idle = engine.progress
    time.sleep(0.05)
    assert engine.progress >= idle + 0.05
    thread = in_thread(lambda: engine.embed(["river"], JobOptions()))
    while not encoder.batches:
        time.sleep(0.01)
    stuck = engine.progress
    time.sleep(0.05)
    assert engine.progress == stuck
    gate.set()
    thread.join(5)
    time.sleep(0.05)
    assert engine.progress > stuck


def test_warming_finds_a_model_that_makes_no_vectors(
    engine: Engine, watched: Callable[..., tuple[Engine, Watched]]
) -> None:
    from storage.contract.errors import ModelBroken

    engine.warm()
    dead, _ = watched(lambda ids: torch.zeros_like)
    with pytest.raises(ModelBroken, match="makes no usable vectors"):
        dead.warm()


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
    engine.stop(wait=10)
