"""A device that this torch cannot use: told in a sentence, and not taken for the model's or a text's fault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from storage.contract.ids import new_id
from tests.models import make_model
from worker import exits
from worker.engine import loading
from worker.engine.checkpoint import resolve
from worker.engine.failures import EngineFailed
from worker.engine.loading import load_engine

#: No machine has so many; and a torch without CUDA has none at all.
NOWHERE = "cuda:99"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("small"), hidden=64, layers=1)


def test_a_worker_on_a_device_that_cannot_be_used_says_so_and_ends(small: Path, tmp_path: Path) -> None:
    # Given a worker process that was given such a device
    settings = {"EMBEDMILL_MODEL": str(small), "EMBEDMILL_DATA_DIR": str(tmp_path), "EMBEDMILL_LOG_FORMAT": "json"}
    command = [sys.executable, "-m", "worker.process", NOWHERE, NOWHERE, new_id()]
    ended = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False, timeout=100)
    # Then it ends as one whose device failed does, with one line that says why
    assert ended.returncode == exits.DEVICE_FAILED, ended.stderr
    assert f"{NOWHERE} cannot be used here" in ended.stderr and "embedmill doctor" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_device_without_room_for_the_network_is_told_as_full(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **named: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(loading, "Engine", full)
    with pytest.raises(EngineFailed, match="no memory for"):
        load_engine(resolve(str(small)), dtype="float32", token_budget=64)
