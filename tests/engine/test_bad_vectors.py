"""Vectors that are none: tried once more, alone and in float32, and only then their texts' errors."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer

from storage.contract.errors import ModelBroken
from storage.contract.options import JobOptions
from tests.engine.watched import TEXTS, UNLIKE, MakeWatched, id_of
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.encoder import Encoder
from worker.engine.engine import Engine
from worker.engine.failures import EngineFailed
from worker.engine.packed import Packed

#: A weight that becomes infinite in each type, and is a number in float32.
TOO_LARGE = {"float16": 1e5, "bfloat16": 3.4e38}


@pytest.mark.scenario("F32")
@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_bad_vector_is_its_texts_error(engine: Engine, watched: MakeWatched, value: float, normalize: bool) -> None:
    marker = id_of(engine, "violin")

    def spoil(ids: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda states: states.masked_fill((ids == marker).any(1)[:, None, None], value)

    sick, encoder = watched(spoil)
    found = sick.embed(["river", "violin", "mill"], JobOptions(normalize=normalize))
    assert {place: error.code for place, error in found.errors.items()} == {1: "bad_vector"}
    assert np.isnan(found.vectors[1]).all() and np.isfinite(found.vectors[[0, 2]]).all()
    # ... after a second try alone, and a harmless text that shows the encoder at work
    assert [len(batch) for batch in encoder.batches] == [3, 1, 1]


@pytest.mark.scenario("F32")
def test_a_vector_that_is_bad_only_in_company_is_saved_by_a_second_try(engine: Engine, watched: MakeWatched) -> None:
    def spoil_first_of_many(ids: Tensor) -> Callable[[Tensor], Tensor] | None:
        return (lambda states: states.index_fill(0, torch.tensor([0]), math.nan)) if len(ids) > 1 else None

    sick, _ = watched(spoil_first_of_many)
    found = sick.embed(TEXTS, JobOptions())
    assert not found.errors
    np.testing.assert_allclose(found.vectors, engine.embed(TEXTS, JobOptions()).vectors, atol=1e-5, rtol=0)


def test_a_vector_that_float16_cannot_keep_is_bad_only_for_a_job_that_keeps_float16(
    watched: MakeWatched,
) -> None:
    huge, _ = watched(lambda ids: lambda states: states * 1e6)
    assert not huge.embed(["river"], JobOptions(normalize=False)).errors
    assert not huge.embed(["river"], JobOptions(normalize=True, store_dtype="float16")).errors
    found = huge.embed(["river"], JobOptions(normalize=False, store_dtype="float16"))
    assert found.errors[0].code == "bad_vector"


def test_warming_finds_a_model_that_makes_no_vectors(engine: Engine, watched: MakeWatched) -> None:
    engine.warm()
    dead, _ = watched(lambda ids: torch.zeros_like)
    with pytest.raises(ModelBroken, match="makes no usable vectors"):
        dead.warm()


@pytest.fixture(params=TOO_LARGE)
def half(request: pytest.FixtureRequest, tiny: Path, tmp_path: Path) -> tuple[Checkpoint, str]:
    """A model with one word, `violin`, whose weights half precision cannot hold, and the type that cannot."""
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    number = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("violin")
    weights["embeddings.word_embeddings.weight"][number, 3] = TOO_LARGE[request.param]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return resolve(str(folder)), request.param


@pytest.mark.scenario("F32")
def test_a_vector_that_half_precision_cannot_hold_is_computed_in_float32(half: tuple[Checkpoint, str]) -> None:
    # Given an engine in half precision, and the same model in float32
    checkpoint, dtype = half
    exact, engine = Engine(checkpoint, dtype="float32"), Engine(checkpoint, dtype=dtype)
    texts = ["river stone", "the violin sings", "mill wheel"]
    wanted = exact.embed(texts, JobOptions(normalize=True)).vectors
    # When texts are embedded of which one overflows
    found = engine.embed(texts, JobOptions(normalize=True))
    # Then it has the vector of float32, and the others theirs of half precision
    assert not found.errors and np.isfinite(wanted).all()
    np.testing.assert_allclose(found.vectors[1], wanted[1], atol=1e-5, rtol=0)
    assert ((found.vectors * wanted).sum(1) > 0.999).all()
    assert not np.allclose(found.vectors[[0, 2]], wanted[[0, 2]], atol=1e-6, rtol=0)
    assert engine.take_counts() == {"vectors_refused": 1}
    # And the copy is kept for the next
    copy = engine._runner._exact._found
    assert not engine.embed(["a violin"], JobOptions()).errors
    assert engine._runner._exact._found is copy is not None and engine.counts == {"vectors_refused": 1}
    for each in (exact, engine):
        each.stop(wait=10)


@pytest.mark.scenario("F32")
def test_without_the_float32_weights_the_text_has_its_error(half: tuple[Checkpoint, str]) -> None:
    # Given an engine whose model was removed after it was loaded
    checkpoint, dtype = half
    engine = Engine(checkpoint, dtype=dtype)
    shutil.rmtree(checkpoint.folder)
    found = engine.embed(["river", "violin", "mill"], JobOptions())
    # Then the text that overflows has its error, the others their vectors
    assert {place: error.code for place, error in found.errors.items()} == {1: "bad_vector"}
    assert np.isfinite(found.vectors[[0, 2]]).all() and np.isnan(found.vectors[1]).all()
    engine.stop(wait=10)


@pytest.mark.scenario("F32")
@pytest.mark.parametrize("full", ["while it is loaded", "while it computes"])
def test_without_memory_for_float32_the_text_has_its_error(
    half: tuple[Checkpoint, str], monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    # Given a device with room for the network in half precision alone
    checkpoint, dtype = half
    engine = Engine(checkpoint, dtype=dtype)
    tried: list[str] = []

    def fill(*_: object) -> None:
        tried.append(full)
        raise torch.OutOfMemoryError("device full")

    load, forward = Encoder.__init__, Encoder.forward_flat
    if full == "while it is loaded":
        monkeypatch.setattr(Encoder, "__init__", fill)
    else:
        monkeypatch.setattr(
            Encoder,
            "forward_flat",
            lambda self, *given: (fill if self.dtype is torch.float32 else forward)(self, *given),
        )
    # When two texts overflow
    found = engine.embed(["river", "violin", "a violin"], JobOptions())
    # Then both have their errors, and room was sought once
    assert {place: error.code for place, error in found.errors.items()} == {1: "bad_vector", 2: "bad_vector"}
    assert np.isfinite(found.vectors[0]).all() and len(tried) == 1
    assert engine.counts == {"vectors_refused": 2}
    monkeypatch.setattr(Encoder, "__init__", load)
    engine.stop(wait=10)


def test_the_float32_copy_goes_first_when_memory_runs_out(engine: Engine, watched: MakeWatched) -> None:
    # Given an engine in half precision that has a copy in float32 on a device that is then too small for both
    def misbehave(ids: Tensor) -> Callable[[Tensor], Tensor] | None:
        if len(ids) > 5 and halved._runner._exact._found is not None:
            raise torch.OutOfMemoryError("device full")
        bad = (ids == marker).any(1)[:, None, None]
        return lambda states: states.masked_fill(bad, math.inf)

    halved, _ = watched(misbehave, dtype="bfloat16")
    marker = id_of(halved, "violin")
    assert not halved.embed(["violin"], JobOptions()).errors
    assert halved._runner._exact._found is not None
    # When a batch finds no room
    found = halved.embed(UNLIKE[:10], JobOptions(normalize=True))
    # Then the copy was given up, not half of the batch
    assert not found.errors and halved.counts == {"vectors_refused": 1}
    wanted = engine.embed(UNLIKE[:10], JobOptions(normalize=True)).vectors
    assert ((found.vectors * wanted).sum(1) > 0.999).all()


class Widening(Encoder):
    """An encoder that adds components to vectors of batches with some word, or of all."""

    marker: int | None = None
    wide = False

    def forward(self, ids: Tensor, mask: Tensor | None, layer: int) -> Tensor:
        self.wide = self.marker is None or bool((ids == self.marker).any())
        return super().forward(ids, mask, layer)

    def forward_flat(self, packed: Packed, layer: int) -> Tensor:
        self.wide = self.marker is None or bool((packed.ids == self.marker).any())
        return super().forward_flat(packed, layer)

    def project(self, pooled: Tensor) -> Tensor:
        projected = super().project(pooled)
        return torch.cat([projected, projected[:, :4]], dim=1) if self.wide else projected


@pytest.mark.scenario("F32")
@pytest.mark.parametrize("options", [JobOptions(), JobOptions(dimensions=8)])
def test_a_vector_of_a_wrong_width_is_its_texts_error_even_where_it_is_cut(
    engine: Engine, checkpoint: Checkpoint, options: JobOptions
) -> None:
    # Given an encoder that makes too wide vectors of a batch with a certain text
    encoder = Widening(checkpoint)
    sick = Engine(checkpoint, cores=1, encoder=encoder)
    encoder.marker = id_of(sick, "violin")
    found = sick.embed(["river", "violin", "mill"], options)
    # Then that text has its error, and its neighbours the vectors of their second try
    assert {place: error.code for place, error in found.errors.items()} == {1: "bad_vector"}
    wanted = engine.embed(["river", "mill"], options).vectors
    np.testing.assert_allclose(found.vectors[[0, 2]], wanted, atol=1e-5, rtol=0)
    assert sick.counts == {"vectors_refused": 3}
    sick.stop(wait=10)


def test_a_model_that_is_wider_than_its_card_is_found_when_it_is_warmed(checkpoint: Checkpoint) -> None:
    sick = Engine(checkpoint, cores=1, encoder=Widening(checkpoint))
    with pytest.raises(ModelBroken, match="makes no usable vectors"):
        sick.warm()
    with pytest.raises(EngineFailed, match="no usable vector of any text"):
        sick.embed(["river"], JobOptions(dimensions=8))
    sick.stop(wait=10)
