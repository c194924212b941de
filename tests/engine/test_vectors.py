"""Vectors against references: sentence-transformers for real weights, transformers alone for random ones."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Dropout, Normalize, Pooling, Transformer
from transformers import AutoModel, AutoTokenizer

from storage.contract.options import NO_POOLING, JobOptions
from tests.models import CHARACTERS, FAMILIES, WORDS, add_layout, make_model
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.engine import Engine

TOLERANCE = 1e-5


def mixed_texts(count: int, longest: int, seed: int = 5) -> list[str]:
    """English, Chinese and mixed texts of 1 to `longest` pieces."""
    dice = random.Random(seed)
    texts = []
    for i in range(count):
        size = max(1, min(longest, int(dice.lognormvariate(2.8, 1.3))))
        english = " ".join(dice.choices(WORDS, k=size)).capitalize() + "."
        chinese = "".join(dice.choices(CHARACTERS, k=size)) + "。"
        half = " ".join(dice.choices(WORDS, k=size // 2)) + "，" + "".join(dice.choices(CHARACTERS, k=size // 2))
        texts.append((english, chinese, half)[i % 3])
    return texts


def token_states(folder: Path, texts: list[str], layers: tuple[int, ...]) -> list[list[torch.Tensor]]:
    """What transformers alone gives for one text at a time: no batch, no padding; by layer, then by text."""
    network = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    states: list[list[torch.Tensor]] = [[] for _ in layers]
    with torch.inference_mode():
        for text in texts:
            encoding = tokenizer(text, truncation=True, max_length=512, return_tensors="pt")
            found = network(**encoding, output_hidden_states=True).hidden_states
            for kept, layer in zip(states, layers, strict=True):
                kept.append(found[layer][0])
    return states


def pooled(states: list[torch.Tensor], pooling: str) -> NDArray[np.float32]:
    """Pool by hand."""
    by_hand = {
        "mean": lambda s: s.mean(0),
        "cls": lambda s: s[0],
        "max": lambda s: s.max(0)[0],
        "last": lambda s: s[-1],
    }
    return torch.stack([by_hand[pooling](state) for state in states]).numpy()


def test_minilm_gives_sentence_transformers_vectors(minilm: Checkpoint, minilm_engine: Engine) -> None:
    texts = [*mixed_texts(196, 40), " ".join(WORDS * 2), " ".join(WORDS * 6), "a", CHARACTERS * 9]
    expected = SentenceTransformer(str(minilm.folder), device="cpu").encode(texts)
    found = minilm_engine.embed(texts, JobOptions())
    assert not found.errors
    assert found.lengths.max() > 500 and found.tokens.max() == 256
    np.testing.assert_allclose(found.vectors, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_random_weights_give_transformers_vectors(models: dict[str, Path], kind: str) -> None:
    texts = [*mixed_texts(8, 40), " ".join(WORDS * 6), "a"]
    engine = Engine(resolve(str(models[kind])))
    for layer, states in zip((-1, 0), token_states(models[kind], texts, (-1, 0)), strict=True):
        for pooling in ("mean", "cls", "max", "last"):
            found = engine.embed(texts, JobOptions(layer=layer, pooling=pooling))
            np.testing.assert_allclose(found.vectors, pooled(states, pooling), atol=TOLERANCE, rtol=0)
            assert found.vectors.std(axis=0).max() > 0.01 or (layer, pooling) == (0, "cls")
    engine.stop(wait=10)


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_on_the_list_is_served(tmp_path: Path, kind: str) -> None:
    folder = make_model(tmp_path, kind, hidden=64, layers=3)
    texts = [*mixed_texts(9, 40), " ".join(WORDS * 6)]
    checkpoint = resolve(str(folder))
    assert (checkpoint.layers, checkpoint.width, checkpoint.max_length) == (3, 64, 512)
    engine = Engine(checkpoint)
    for layer, states in zip((-1, 0, 2), token_states(folder, texts, (-1, 0, 2)), strict=True):
        found = engine.embed(texts, JobOptions(layer=layer))
        np.testing.assert_allclose(found.vectors, pooled(states, "mean"), atol=TOLERANCE, rtol=0)
    engine.stop(wait=10)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_on_the_list_is_served_in_half_precision(tmp_path: Path, kind: str, dtype: str) -> None:
    checkpoint, texts = resolve(str(make_model(tmp_path, kind, hidden=64, layers=3))), mixed_texts(9, 40)
    exact, engine = Engine(checkpoint), Engine(checkpoint, dtype=dtype)
    options = JobOptions(normalize=True)
    wanted, found = exact.embed(texts, options).vectors, engine.embed(texts, options)
    # None of them had to be computed once more in float32
    assert not found.errors and not engine.counts
    assert (found.vectors * wanted).sum(1).min() >= 0.999
    for each in (exact, engine):
        each.stop(wait=10)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_padding_to_the_maximum_changes_no_vector(models: dict[str, Path], kind: str) -> None:
    texts = mixed_texts(5, 30)
    engine = Engine(resolve(str(models[kind])))
    for pooling in ("mean", "cls", "max", "last"):
        longest = engine.embed(texts, JobOptions(pooling=pooling, padding="longest"))
        classic = engine.embed(texts, JobOptions(pooling=pooling, padding="max_length", max_length=200))
        np.testing.assert_allclose(classic.vectors, longest.vectors, atol=TOLERANCE, rtol=0)
        assert classic.tokens.tolist() == longest.tokens.tolist()
    engine.stop(wait=10)


def test_cut_vectors_are_the_first_components_at_length_one(minilm_engine: Engine) -> None:
    texts = mixed_texts(20, 30)
    whole = minilm_engine.embed(texts, JobOptions()).vectors[:, :64]
    cut = minilm_engine.embed(texts, JobOptions(dimensions=64)).vectors
    assert cut.shape == (20, 64)
    np.testing.assert_allclose(cut, whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-6)
    plain = minilm_engine.embed(texts, JobOptions(dimensions=64, normalize=False)).vectors
    assert np.linalg.norm(plain, axis=1).max() != pytest.approx(1, abs=1e-3)


def test_modules_and_prompts_are_read_as_sentence_transformers_reads_them(tmp_path: Path) -> None:
    transformer = Transformer(str(make_model(tmp_path / "encoder", hidden=64)), max_seq_length=40, do_lower_case=True)
    dense = Dense(64, 24, activation_function=torch.nn.Tanh())
    theirs = SentenceTransformer(
        modules=[
            transformer,
            Pooling(64, "cls"),
            dense,
            Dense(24, 16, bias=False, activation_function=None),
            Normalize(),
        ],
        prompts={"query": "river question: ", "plain": ""},
        default_prompt_name="query",
        device="cpu",
    )
    theirs.save_pretrained(str(tmp_path / "whole"), create_model_card=False)
    engine = Engine(resolve(str(tmp_path / "whole")))
    card = engine.card
    assert (card.width, card.pooling, card.normalize, card.max_length) == (16, "cls", True, 40)
    texts = mixed_texts(25, 60)
    for options, expected in (
        (JobOptions(), theirs.encode(texts)),
        (JobOptions(prompt_name="plain"), theirs.encode(texts, prompt_name="plain")),
        (JobOptions(prompt="mill: "), theirs.encode(texts, prompt="mill: ")),
        (JobOptions(dimensions=8), theirs.encode(texts, truncate_dim=8, normalize_embeddings=True)),
    ):
        np.testing.assert_allclose(engine.embed(texts, options).vectors, expected, atol=TOLERANCE, rtol=0)
    engine.stop(wait=10)


@pytest.mark.parametrize("mode", ["mean_sqrt_len_tokens", "weightedmean"])
def test_poolings_that_a_job_cannot_name_are_those_of_sentence_transformers(tmp_path: Path, mode: str) -> None:
    transformer = Transformer(str(make_model(tmp_path / "encoder", hidden=64)))
    theirs = SentenceTransformer(modules=[transformer, Pooling(64, mode), Dropout(0.5)], device="cpu")
    theirs.save_pretrained(str(tmp_path / "whole"), create_model_card=False)
    texts = mixed_texts(12, 60)
    engine = Engine(resolve(str(tmp_path / "whole")))
    assert engine.card.pooling == mode
    np.testing.assert_allclose(
        engine.embed(texts, JobOptions()).vectors, theirs.encode(texts), atol=TOLERANCE * 10, rtol=TOLERANCE
    )
    engine.stop(wait=10)


@pytest.mark.parametrize("normalizes", [True, False])
@pytest.mark.parametrize("dense", [True, False])
def test_vectors_that_a_models_files_cut_are_cut_as_sentence_transformers_cuts_them(
    tmp_path: Path, dense: bool, normalizes: bool
) -> None:
    # Given a model that was saved with a truncate_dim, which is read from its files again
    modules: list[torch.nn.Module] = [Transformer(str(make_model(tmp_path / "encoder", hidden=64))), Pooling(64)]
    modules += [Dense(64, 48)] if dense else []
    modules += [Normalize()] if normalizes else []
    SentenceTransformer(modules=modules, truncate_dim=24, device="cpu").save_pretrained(
        str(tmp_path / "whole"), create_model_card=False
    )
    theirs, texts = SentenceTransformer(str(tmp_path / "whole"), device="cpu"), mixed_texts(12, 60)
    engine = Engine(resolve(str(tmp_path / "whole")))
    # Then that is its width, and its vectors are cut after they are normalised, and not normalised again
    assert (engine.card.width, engine.card.states_width, engine.card.normalize) == (24, 64, False)
    for options, expected in (
        (JobOptions(), theirs.encode(texts)),
        (JobOptions(normalize=True), theirs.encode(texts, normalize_embeddings=True)),
        (JobOptions(dimensions=8), theirs.encode(texts, truncate_dim=8, normalize_embeddings=True)),
        (JobOptions(dimensions=8, normalize=False), theirs.encode(texts, truncate_dim=8)),
    ):
        np.testing.assert_allclose(engine.embed(texts, options).vectors, expected, atol=TOLERANCE, rtol=0)
    assert engine.embed(texts[:1], JobOptions(pooling=NO_POOLING)).vectors.shape[1] == 64
    engine.stop(wait=10)


def test_prompts_that_every_model_has_are_empty(tmp_path: Path) -> None:
    # Given a model whose files have a prompt for queries, and one whose files have none
    told = add_layout(make_model(tmp_path / "told", hidden=64), prompts={"query": "river: "})
    untold, texts = make_model(tmp_path / "untold", hidden=64), mixed_texts(3, 20)
    for folder in (told, untold):
        engine, theirs = Engine(resolve(str(folder))), SentenceTransformer(str(folder), device="cpu")
        # Then both have those names that sentence-transformers gives every model
        for name in ("query", "document"):
            found = engine.embed(texts, JobOptions(prompt_name=name)).vectors
            np.testing.assert_allclose(found, theirs.encode(texts, prompt_name=name), atol=TOLERANCE, rtol=0)
        engine.stop(wait=10)


def test_lower_casing_before_the_tokenizer_is_honoured(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "roberta", hidden=64)
    add_layout(folder, settings={"max_seq_length": 64, "do_lower_case": True})
    texts = ["River MILL Wheel", "river mill wheel"]
    engine = Engine(resolve(str(folder)))
    found = engine.embed(texts, JobOptions()).vectors
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found, SentenceTransformer(str(folder), device="cpu").encode(texts), atol=TOLERANCE)
    engine.stop(wait=10)


def test_half_precision_stays_near_float32(minilm: Checkpoint, minilm_engine: Engine) -> None:
    texts = mixed_texts(40, 60)
    engine = Engine(minilm, dtype="bfloat16")
    assert engine.card.precision == "half" and minilm_engine.card.precision == "float32"
    cosines = (engine.embed(texts, JobOptions()).vectors * minilm_engine.embed(texts, JobOptions()).vectors).sum(axis=1)
    assert cosines.mean() >= 0.9999 and cosines.min() >= 0.9998
    engine.stop(wait=10)
