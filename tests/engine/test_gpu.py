"""What only a GPU can show: torch's kernels over packed texts, and launches that wait for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from storage.contract.options import JobOptions
from tests.engine.packing import PACKABLE
from tests.engine.watched import TEXTS
from tests.models import FAMILIES, make_model
from worker.engine.batching import Packing
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.engine import Engine
from worker.engine.flight import Flight

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


@contextmanager
def waiting_raises() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_gpu_gives_the_vectors_of_a_cpu(tmp_path: Path, kind: str, dtype: str) -> None:
    # Given a model of any family
    checkpoint = resolve(str(make_model(tmp_path, kind, hidden=128, layers=3)))
    exact, engine = Engine(checkpoint, dtype="float32"), Engine(checkpoint, "cuda", dtype, token_budget=512)
    # Then it is packed where it can be, and its vectors are those of float32 within what the type rounds
    assert engine._encoder.packing is (Packing.FREE if kind in PACKABLE else Packing.PADDED)
    for options in (JobOptions(normalize=True), JobOptions(normalize=True, padding="max_length", max_length=64)):
        cosines = (engine.embed(TEXTS, options).vectors * exact.embed(TEXTS, options).vectors).sum(1)
        assert cosines.min() >= 0.999
    for each in (exact, engine):
        each.stop(wait=10)


@pytest.mark.parametrize(("dtype", "least"), [("float16", 0.99999), ("bfloat16", 0.9999)])
def test_a_text_has_the_same_vector_alone_and_in_any_company(minilm: Checkpoint, dtype: str, least: float) -> None:
    # (cuBLAS adds up otherwise for other numbers of rows, and bfloat16 rounds eight times as coarsely)
    engine = Engine(minilm, "cuda", dtype)
    together = engine.embed(TEXTS, JobOptions()).vectors
    alone = np.concatenate([engine.embed([text], JobOptions()).vectors for text in TEXTS])
    assert (together * alone).sum(1).min() >= least
    engine.stop(wait=10)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
def test_launching_a_batch_waits_for_nothing(minilm: Checkpoint, monkeypatch: pytest.MonkeyPatch, pooling: str) -> None:
    # Given an engine
    launched: list[bool] = []
    init = Flight.__init__

    def launch(self: Flight, *given: object) -> None:
        init(self, *given)  # type: ignore[arg-type]
        launched.append(not self.has_failed)

    monkeypatch.setattr(Flight, "__init__", launch)
    engine = Engine(minilm, "cuda", "bfloat16", token_budget=512)
    # When it embeds while whatever synchronises raises, but for the event that a landing waits for
    with waiting_raises():
        found = engine.embed(TEXTS, JobOptions(pooling=pooling))
    # Then every launch went through
    assert all(launched) and len(launched) > 3
    assert np.isfinite(found.vectors).all()
    engine.stop(wait=10)
