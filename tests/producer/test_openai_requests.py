"""Requests of OpenAI's dialect, by themselves and as lines of a batch: what they mean for a model that says nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producer.api.openai.batchplan import plan
from producer.api.openai.requests import parse
from storage.contract.options import JobOptions
from tests.models import make_model
from worker.engine.checkpoint import resolve
from worker.engine.engine import Engine

TEXTS = ["the river", "a miller walks to the market", "bread"]


def test_vectors_have_length_one_whatever_the_models_files_say(tmp_path: Path) -> None:
    # Given a model whose files do not normalise, and what OpenAI's clients ask of it
    engine = Engine(resolve(str(make_model(tmp_path, hidden=64, layers=1))), cores=1)
    plain = engine.embed(TEXTS, JobOptions()).vectors
    assert not engine.card.normalize and not np.allclose(np.linalg.norm(plain, axis=1), 1, atol=0.1)
    asked: list[dict[str, Any]] = [{}, {"dimensions": 64}, {"normalize": None}]
    # When they are embedded
    found = [engine.embed(TEXTS, parse({"input": TEXTS, **more}).options).vectors for more in asked]
    # Then the dot product ranks them as the cosine does, and the full number of dimensions changes nothing
    wanted = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    for vectors in found:
        np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    # And who does not want that says so
    raw = engine.embed(TEXTS, parse({"input": TEXTS, "normalize": False}).options).vectors
    np.testing.assert_allclose(raw, plain, atol=1e-6)
    engine.stop(wait=10)


@pytest.mark.parametrize(("given", "kept"), [({}, True), ({"normalize": None}, True), ({"normalize": False}, False)])
def test_lines_of_a_batch_mean_the_same(given: dict[str, Any], kept: bool) -> None:
    body = {"input": TEXTS, "model": "mill/flour", **given}
    line = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": body}).encode()
    made = plan([line], "mill/flour", lambda name, revision: None, 10, lambda: None)
    assert made.errors == []
    assert [options.normalize for _, _, options in made.asked] == [kept]
