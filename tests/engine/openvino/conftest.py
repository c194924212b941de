"""Exports of these tests lie in a folder of their own, made once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from worker.engine.checkpoint import Checkpoint
from worker.engine.engine import Engine

#: Makes an engine, given its dtype, and stops it in the end.
MakeEngine = Callable[..., Engine]

#: For a test that takes too long for `make test`.
long_form = pytest.mark.skipif(os.environ.get("INT8") != "all", reason="belongs to the long form: make int8-test")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "embedmill" / "openvino"


@pytest.fixture
def make(checkpoint: Checkpoint) -> Iterator[MakeEngine]:
    """Makes engines over OpenVINO, of the tiny model where no other is named."""
    made: list[Engine] = []

    def make(dtype: str, model: Checkpoint = checkpoint, backend: str | None = "openvino") -> Engine:
        made.append(Engine(model, dtype=dtype, backend=backend))
        return made[-1]

    yield make
    for engine in made:
        engine.stop(wait=10)
