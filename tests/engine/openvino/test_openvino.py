"""The encoder computed by OpenVINO: torch's vectors, in every form that is asked for."""

from __future__ import annotations

import logging
import math
import threading

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from storage.contract.errors import InvalidOption
from storage.contract.options import JobOptions
from tests.engine.openvino.conftest import MakeEngine, long_form
from tests.engine.watched import TEXTS, id_of, in_thread
from worker.engine.checkpoint import Checkpoint
from worker.engine.engine import Engine
from worker.engine.openvino.encoder import OpenVinoEncoder
from worker.engine.openvino.installed import openvino
from worker.process import Process
from worker.settings import WorkerSettings

UNIT = JobOptions(normalize=True)


def cosines(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of normalised vectors, row by row."""
    return (found * wanted).sum(1)


def alone(engine: Engine, texts: list[str]) -> NDArray[np.float32]:
    return np.concatenate([engine.embed([text], UNIT).vectors for text in texts])


@pytest.mark.parametrize(
    "options",
    [
        JobOptions(),
        JobOptions(pooling="cls", normalize=True),
        JobOptions(pooling="last", dimensions=8),
        JobOptions(pooling="max", padding="max_length", max_length=32),
        JobOptions(pooling="none"),
        JobOptions(pooling="none", padding="max_length", max_length=32),
        JobOptions(pooling="none", layer=1),
    ],
)
def test_float32_gives_torchs_vectors(engine: Engine, make: MakeEngine, options: JobOptions) -> None:
    # Given the same model computed by torch and by OpenVINO
    ours = make("float32")
    # When the same texts of many lengths are embedded
    found, wanted = ours.embed(TEXTS, options), engine.embed(TEXTS, options)
    # Then nothing but rounding tells them apart, and they may be mixed in one job
    assert not found.errors
    np.testing.assert_allclose(found.vectors, wanted.vectors, atol=1e-5, rtol=0)
    assert ours.card == engine.card


def test_bfloat16_is_near_float32_alone_and_in_company(engine: Engine, make: MakeEngine) -> None:
    # Given a model computed in bfloat16
    half = make("bfloat16")
    found, exact = half.embed(TEXTS, UNIT).vectors, engine.embed(TEXTS, UNIT).vectors
    # Then its vectors are near those of float32, and not the same where the processor knows bfloat16: elsewhere
    # it may be emulated, or not be computed in at all
    assert half.card.precision == "half"
    assert cosines(found, exact).min() >= 0.9998
    knows = "BF16" in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert not (knows and np.allclose(found, exact, atol=1e-6, rtol=0))
    # And company changes hardly anything
    assert cosines(alone(half, TEXTS[:40]), found[:40]).min() >= 0.9999


def test_auto_takes_bfloat16_where_the_processor_has_it_and_the_vectors_hardly_change(make: MakeEngine) -> None:
    knows = "BF16" in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert make("auto").card.precision == ("half" if knows else "float32")


@long_form
def test_int8_is_a_class_of_its_own_whose_loss_is_told(
    engine: Engine, make: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a model quantised to int8, which needs no backend to be named
    caplog.set_level(logging.INFO)
    small = make("int8", backend=None)
    # Then its log tells how near its vectors are to float32, and its vectors are in no other class
    told = [record.getMessage() for record in caplog.records if "cosine to float32" in record.getMessage()]
    assert len(told) == 1 and "in int8" in told[0]
    assert small.card.precision == "int8" and small.card.id != engine.card.id
    # And what it told is true of other texts as well
    found, exact = small.embed(TEXTS, UNIT).vectors, engine.embed(TEXTS, UNIT).vectors
    mean = float(told[0].split("texts ")[1].split(" on average")[0])
    assert cosines(found, exact).mean() == pytest.approx(mean, abs=0.02) and mean > 0.95
    assert not np.allclose(found, exact, atol=1e-3, rtol=0)
    # And company changes hardly anything
    assert cosines(alone(small, TEXTS[:40]), found[:40]).min() >= 0.999


@long_form
def test_minilm_in_int8_alone_and_in_company(minilm: Checkpoint, minilm_engine: Engine, make: MakeEngine) -> None:
    # Given real weights in int8
    small = make("int8", minilm)
    found, exact = small.embed(TEXTS, UNIT).vectors, minilm_engine.embed(TEXTS, UNIT).vectors
    # Then vectors are near those of float32, and a text's own in any company
    assert cosines(found, exact).mean() >= 0.98
    assert cosines(alone(small, TEXTS[:40]), found[:40]).min() >= 0.999


def test_many_threads_each_get_their_own_rows(engine: Engine, make: MakeEngine) -> None:
    # Given two callers of one engine
    ours, wanted = make("float32"), engine.embed(TEXTS, UNIT).vectors
    found: dict[int, NDArray[np.float32]] = {}
    both = threading.Barrier(2, timeout=30)

    def embed(number: int) -> None:
        both.wait()
        found[number] = ours.embed(TEXTS[number::2] * 3, UNIT).vectors

    # When both embed at the same time
    threads = [in_thread(lambda number=number: embed(number)) for number in range(2)]
    for thread in threads:
        thread.join(60)
    # Then each has its own
    for number in range(2):
        np.testing.assert_allclose(found[number], np.tile(wanted[number::2], (3, 1)), atol=1e-5, rtol=0)


def test_other_layers_than_the_last_are_computed_by_torch(
    engine: Engine, make: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    ours = make("float32")
    for layer in (0, 1):
        options = JobOptions(layer=layer)
        found, wanted = ours.embed(TEXTS, options).vectors, engine.embed(TEXTS, options).vectors
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)
    said = [record for record in caplog.records if "torch computes the others" in record.getMessage()]
    assert len(said) == 1


class Spoiled(OpenVinoEncoder):
    """Makes infinite states of every text with a certain word."""

    marker = -1

    def forward(self, ids: Tensor, mask: Tensor | None, layer: int) -> Tensor:
        bad = (ids == self.marker).any(1)[:, None, None]
        return super().forward(ids, mask, layer).masked_fill(bad, math.inf)


@pytest.mark.scenario("F32")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", pytest.param("int8", marks=long_form)])
def test_a_vector_that_is_none_is_computed_again_by_torch_in_float32(
    engine: Engine, checkpoint: Checkpoint, dtype: str
) -> None:
    # Given an encoder that fails on one word
    encoder = Spoiled(checkpoint, dtype)
    sick = Engine(checkpoint, cores=1, encoder=encoder)
    encoder.marker = id_of(sick, "violin")
    # When a text has it
    found = sick.embed(["river", "the violin sings", "mill"], UNIT)
    # Then that text has the vector of float32
    assert not found.errors and sick.counts == {"vectors_refused": 1}
    wanted = engine.embed(["the violin sings"], UNIT).vectors[0]
    np.testing.assert_allclose(found.vectors[1], wanted, atol=1e-5, rtol=0)
    sick.stop(wait=10)


def test_a_worker_process_serves_what_its_settings_say(checkpoint: Checkpoint) -> None:
    # Given the settings of a worker for int8
    settings = WorkerSettings(model=checkpoint.name, dtype="int8")
    # When its process loads the model, then it is in int8, and warm
    engine = Process(settings, "cpu", "cpu", "worker-1")._load()
    assert engine.card.precision == "int8"
    engine.stop(wait=10)


def test_the_encoder_knows_no_other_dtypes(checkpoint: Checkpoint) -> None:
    with pytest.raises(InvalidOption, match="not 'float16'"):
        OpenVinoEncoder(checkpoint, "float16")
