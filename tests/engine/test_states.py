"""Token states as they are, without pooling: transformers' own, in any company, and never a bad one."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from storage.contract.errors import InvalidOption
from storage.contract.options import NO_POOLING, JobOptions
from tests.engine.watched import TEXTS, MakeWatched, id_of, in_thread, until
from tests.models import make_model
from worker.engine.call import Embedded
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.engine import Engine

STATES = JobOptions(pooling=NO_POOLING)
MIXED = [
    "The kettle sings.",
    "磨坊在河边。",
    "wheat",
    "river " * 400,
    "The kettle sings.",
    "rye and oats, milled twice",
]


def states_of(found: Embedded) -> list[NDArray[np.float32]]:
    """Return the states text by text; none of a text with an error."""
    counts = np.where(np.isin(np.arange(len(found.tokens)), list(found.errors)), 0, found.tokens)
    assert found.each_token and counts.sum() == len(found.vectors)
    return np.split(found.vectors, np.cumsum(counts)[:-1])


def transformers_states(checkpoint: Checkpoint, texts: list[str], layer: int = -1) -> list[NDArray[np.float32]]:
    """Return what plain transformers says, one text at a time."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.transformer)
    network = AutoModel.from_pretrained(checkpoint.transformer).eval()
    wanted = []
    with torch.inference_mode():
        for text in texts:
            given = tokenizer(text, truncation=True, max_length=checkpoint.max_length, return_tensors="pt")
            wanted.append(network(**given, output_hidden_states=True).hidden_states[layer][0].numpy())
    return wanted


@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_states_are_those_of_transformers(minilm: Checkpoint, minilm_engine: Engine, padding: str) -> None:
    # Given texts of unlike length, one of them twice, one too long; when their states are asked for
    found = minilm_engine.embed(MIXED, JobOptions(pooling=NO_POOLING, padding=padding))
    # Then each text has those of all of its tokens, special ones too, as many as were read
    for text, wanted in zip(states_of(found), transformers_states(minilm, MIXED), strict=True):
        np.testing.assert_allclose(text, wanted, atol=1e-4, rtol=0)
    assert found.tokens.tolist() == [len(text) for text in states_of(found)]
    assert (found.lengths > found.tokens).tolist() == [False, False, False, True, False, False]


def test_their_mean_is_the_vector(minilm_engine: Engine) -> None:
    vectors = minilm_engine.embed(MIXED, JobOptions(pooling="mean", normalize=True)).vectors
    means = np.stack([text.mean(0) for text in states_of(minilm_engine.embed(MIXED, STATES))])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(means, vectors, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "mpnet"])
def test_states_of_other_families_and_layers(tmp_path: Path, kind: str) -> None:
    checkpoint = resolve(str(make_model(tmp_path, kind, hidden=64, layers=2)))
    engine = Engine(checkpoint)
    for layer in (-1, 1):
        found = engine.embed(TEXTS[:9], JobOptions(pooling=NO_POOLING, layer=layer))
        for text, wanted in zip(states_of(found), transformers_states(checkpoint, TEXTS[:9], layer), strict=True):
            np.testing.assert_allclose(text, wanted, atol=1e-4, rtol=0)
    engine.stop(wait=10)


def test_states_are_before_the_dense_modules_and_as_wide_as_the_network(tmp_path: Path) -> None:
    # Given a model whose dense module makes vectors narrower than its states
    transformer = Transformer(str(make_model(tmp_path / "network", "bert", hidden=64, layers=2)))
    modules = [transformer, Pooling(64, "mean"), Dense(64, 16)]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(tmp_path / "whole"), create_model_card=False)
    checkpoint = resolve(str(tmp_path / "whole"))
    engine = Engine(checkpoint)
    assert (engine.card.width, engine.card.states_width) == (16, 64)
    found = states_of(engine.embed(TEXTS[:3], STATES))
    for text, wanted in zip(found, transformers_states(checkpoint, TEXTS[:3]), strict=True):
        np.testing.assert_allclose(text, wanted, atol=1e-4, rtol=0)
    engine.stop(wait=10)


def test_states_and_vectors_share_batches(engine: Engine, watched: MakeWatched) -> None:
    # Given an encoder that is held up in its first batch while calls of many kinds come in
    gate, entered = threading.Event(), threading.Event()

    def hold(ids: Tensor) -> None:
        entered.set()
        assert gate.wait(100)

    slow, encoder = watched(hold)
    kinds = [JobOptions(pooling="cls"), STATES, JobOptions(pooling="max", normalize=True), STATES]
    threads = [in_thread(lambda: slow.embed(["first"], JobOptions()))]
    assert entered.wait(60)
    found: dict[int, Embedded] = {}
    for number, kind in enumerate(kinds):
        texts = TEXTS[number : number + 5]
        threads.append(
            in_thread(lambda texts=texts, kind=kind, number=number: found.update({number: slow.embed(texts, kind)}))
        )
    until(lambda: len(slow._room._bulk) == len(kinds))
    # When it goes on, with all of them in one batch
    gate.set()
    for thread in threads:
        thread.join(60)
    assert [len(batch) for batch in encoder.batches] == [1, 20]
    # Then each has its own
    for number, kind in enumerate(kinds):
        wanted = engine.embed(TEXTS[number : number + 5], kind).vectors
        np.testing.assert_allclose(found[number].vectors, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_a_bad_state_of_one_token_is_its_texts_error(engine: Engine, watched: MakeWatched, value: float) -> None:
    # Given an encoder that spoils one token of a text
    marker = id_of(engine, "violin")

    def spoil(ids: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda states: states.masked_fill((ids == marker)[:, :, None], value)

    sick, encoder = watched(spoil)
    texts = ["river", "a violin sings", "mill", "river"]
    found = sick.embed(texts, STATES)
    # Then that text has its error and no rows, after a second try alone; the others have theirs
    assert {place: error.code for place, error in found.errors.items()} == {1: "bad_vector"}
    assert [len(batch) for batch in encoder.batches] == [3, 1, 1]
    river, none, mill, again = states_of(found)
    assert len(none) == 0
    wanted = engine.embed(["river", "mill", "river"], STATES).vectors
    np.testing.assert_allclose(np.concatenate([river, mill, again]), wanted, atol=1e-5, rtol=0)


def test_a_state_that_is_bad_only_in_company_is_saved_by_a_second_try(engine: Engine, watched: MakeWatched) -> None:
    def spoil_first_of_many(ids: Tensor) -> Callable[[Tensor], Tensor] | None:
        return (lambda states: states.index_fill(0, torch.tensor([0]), math.nan)) if len(ids) > 1 else None

    sick, _ = watched(spoil_first_of_many)
    found = sick.embed(TEXTS, STATES)
    assert not found.errors
    np.testing.assert_allclose(found.vectors, engine.embed(TEXTS, STATES).vectors, atol=1e-5, rtol=0)


def test_a_text_that_the_encoder_fails_on_costs_the_others_nothing(engine: Engine, watched: MakeWatched) -> None:
    marker = id_of(engine, "violin")

    def raising(ids: Tensor) -> None:
        if (ids == marker).any():
            raise RuntimeError("no violins")

    sick, _ = watched(raising)
    found = sick.embed(["river", "violin", "mill"], STATES)
    assert {place: error.code for place, error in found.errors.items()} == {1: "encoder_failed"}
    assert [len(text) > 0 for text in states_of(found)] == [True, False, True]


def test_a_number_that_float16_cannot_keep_is_bad_only_where_float16_is_kept(watched: MakeWatched) -> None:
    huge, _ = watched(lambda ids: lambda states: states * 1e6)
    assert not huge.embed(["river"], STATES).errors
    assert huge.embed(["river"], JobOptions(pooling=NO_POOLING, store_dtype="float16")).errors[0].code == "bad_vector"


def test_no_texts_have_no_states(engine: Engine) -> None:
    found = engine.embed([], STATES)
    assert found.vectors.shape == (0, 64) and not found.errors


@pytest.mark.parametrize("options", [{"normalize": True}, {"dimensions": 8}])
def test_states_are_neither_normalised_nor_cut(options: dict[str, object]) -> None:
    with pytest.raises(InvalidOption, match="neither normalised nor cut"):
        JobOptions(pooling=NO_POOLING, **options)  # type: ignore[arg-type]
