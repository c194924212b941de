"""Models that the engine's tests share; made or loaded once a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from storage.contract.models import DEFAULT_MODEL
from tests.engine.watched import MakeWatched, Watch, Watched
from tests.models import make_model
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.engine import Engine


@pytest.fixture(scope="session", autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def minilm() -> Checkpoint:
    return resolve(DEFAULT_MODEL)


@pytest.fixture(scope="session")
def minilm_engine(minilm: Checkpoint) -> Iterator[Engine]:
    engine = Engine(minilm)
    yield engine
    engine.stop(wait=10)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random-weight models of the classic width, by family; read-only."""
    root = tmp_path_factory.mktemp("models")
    return {kind: make_model(root / kind, kind) for kind in ("bert", "roberta", "distilbert")}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT so small that a test may run it hundreds of times; read-only."""
    return make_model(tmp_path_factory.mktemp("tiny"), "bert", hidden=64, layers=2)


@pytest.fixture(scope="session")
def checkpoint(tiny: Path) -> Checkpoint:
    return resolve(str(tiny))


@pytest.fixture(scope="session")
def engine(checkpoint: Checkpoint) -> Iterator[Engine]:
    engine = Engine(checkpoint)
    yield engine
    engine.stop(wait=10)


@pytest.fixture
def watched(checkpoint: Checkpoint) -> Iterator[MakeWatched]:
    """Makes engines over a watched encoder, and stops them."""
    made: list[Engine] = []

    def make(watch: Watch, budget: int = 1024, cores: int = 1, dtype: str = "float32") -> tuple[Engine, Watched]:
        encoder = Watched(checkpoint, watch, dtype)
        made.append(Engine(checkpoint, token_budget=budget, cores=cores, encoder=encoder))
        return made[-1], encoder

    yield make
    for engine in made:
        engine.stop(wait=10)
