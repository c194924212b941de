"""How an engine is run is measured once, remembered, and never put over what was asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from storage.contract.errors import ModelBroken
from storage.contract.options import JobOptions
from tests.models import make_model
from worker.engine import division, precision, trials, tuning
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.engine import CPU_TOKEN_BUDGET, Engine
from worker.engine.gpu import Gpu
from worker.engine.processor import Processor, available_cores, this_processor
from worker.engine.records import Record
from worker.engine.trials import Trials
from worker.engine.tuning import tune

#: With time enough on any machine; what there is no time for is a matter of its own.
patient = partial(tune, seconds=600)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few texts and rounds: what is measured here is whether it is measured."""
    monkeypatch.setattr(precision, "_ROUNDS", 2)
    for name, value in {"_BATCHING_ROUNDS": 2, "_SAMPLE_TOKENS": 500, "_WARM_UP": 2}.items():
        monkeypatch.setattr(division, name, value)


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that multiplies bfloat16, or is believed to."""
    processor = Processor("a mill", frozenset({"avx512_bf16"}), available_cores())
    monkeypatch.setattr(tuning, "this_processor", lambda: processor)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """A GPU; what it computes this processor computes."""
    card = Gpu("cpu", "a wind mill", (9, 0))
    monkeypatch.setattr(tuning, "this_gpu", lambda device: card)
    return card


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was measured: `precision`, `batching`."""
    done: list[str] = []
    real = {name: getattr(tuning, f"choose_{name}") for name in ("precision", "batching")}

    def noting(name: str) -> Callable[..., Any]:
        return lambda *given: done.append(name) or real[name](*given)

    for name in real:
        monkeypatch.setattr(tuning, f"choose_{name}", noting(name))
    return done


def record(folder: Path) -> Record:
    (path,) = folder.glob("*.json")
    return Record.model_validate_json(path.read_bytes())


@pytest.mark.usefixtures("bfloat16")
def test_bfloat16_where_it_is_faster_and_hardly_differs(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[str]
) -> None:
    # Given a machine where any gain is enough, so that the test does not depend on this one's
    monkeypatch.setattr(precision, "LEAST_GAIN", 0.0)
    # When tuned
    found = patient(checkpoint, folder=tmp_path)
    # Then it computes in bfloat16, with all cores in use, and says why
    assert (found.dtype, measured) == ("bfloat16", ["precision", "batching"])
    assert found.token_budget in (512, 1024, 2048) and (found.cores or 0) * found.threads == available_cores()
    assert "x float32 here, cosine at least 0.9" in str(found) and str(found).startswith("bfloat16 (")
    # And the network it loaded makes those vectors
    engine = Engine(checkpoint, **found.options)
    exact = Engine(checkpoint, dtype="float32")
    texts = ["river stone mill", "quiet harbour"]
    cosines = (_unit(engine, texts) * _unit(exact, texts)).sum(axis=1)
    assert engine.card.precision == "half" and cosines.min() > 0.999
    engine.stop(wait=10)
    exact.stop(wait=10)


def _unit(engine: Engine, texts: list[str]) -> np.ndarray:
    return engine.embed(texts, JobOptions(normalize=True)).vectors


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("LEAST_COSINE", 1.1, "bfloat16 differs, cosine 0.99"),
        ("LEAST_MEAN", 1.1, "bfloat16 differs, cosine 0.99"),
        ("LEAST_GAIN", 1e9, "bfloat16 is only "),
    ],
)
def test_float32_where_bfloat16_differs_or_gains_too_little(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: float, why: str
) -> None:
    monkeypatch.setattr(precision, name, value)
    found = patient(checkpoint, token_budget=1024, folder=tmp_path)
    assert found.dtype == "float32" and why in found.why
    assert found.encoder is not None and found.encoder.precision == "float32"


@pytest.mark.usefixtures("bfloat16")
def test_a_model_whose_numbers_bfloat16_cannot_hold_stays_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a model that makes no vectors in bfloat16, and any gain is enough
    monkeypatch.setattr(precision, "LEAST_GAIN", 0.0)
    real = trials.Encoder.forward_flat

    def forward(self: Any, packed: Any, layer: int) -> Any:
        states = real(self, packed, layer)
        return states if self.precision == "float32" else states.fill_(float("nan"))

    monkeypatch.setattr(trials.Encoder, "forward_flat", forward)
    checkpoint = resolve(str(make_model(tmp_path / "model", hidden=64)))
    # When tuned, then it computes in float32
    found = patient(checkpoint, token_budget=1024, folder=tmp_path / "cache")
    assert found.dtype == "float32" and "bfloat16 differs" in found.why


@pytest.mark.usefixtures("bfloat16")
def test_a_start_chooses_what_the_one_before_chose(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[str]
) -> None:
    # Given a choice that was measured
    monkeypatch.setattr(precision, "LEAST_GAIN", 0.0)
    first = patient(checkpoint, folder=tmp_path)
    # When this machine would choose otherwise now
    monkeypatch.setattr(precision, "LEAST_GAIN", 1e9)
    again = patient(checkpoint, folder=tmp_path)
    # Then it is the same all the same, and nothing was measured or loaded for it
    assert str(again) == str(first) and measured == ["precision", "batching"] and again.encoder is None
    # And what is asked for is known apart from it
    exact = patient(checkpoint, dtype="float32", folder=tmp_path)
    assert exact.dtype == "float32" and measured == ["precision", "batching", "batching"]
    assert set(record(tmp_path).batchings) == {"float32", "bfloat16"}


@pytest.mark.usefixtures("bfloat16")
def test_another_torch_processor_or_model_is_measured_anew(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[str]
) -> None:
    patient(checkpoint, token_budget=64, folder=tmp_path)
    assert measured == ["precision"]
    patient(resolve(str(make_model(tmp_path / "other", "roberta", hidden=64))), token_budget=64, folder=tmp_path)
    assert len(measured) == 2
    monkeypatch.setattr(tuning, "torch", SimpleNamespace(__version__="99.0", cuda=torch.cuda))
    patient(checkpoint, token_budget=64, folder=tmp_path)
    assert len(measured) == 3
    monkeypatch.setattr(tuning, "this_processor", lambda: Processor("a newer mill", frozenset({"bf16"}), 2))
    patient(checkpoint, token_budget=64, folder=tmp_path)
    assert len(measured) == 4


def test_what_is_asked_for_is_taken_and_needs_no_file(
    checkpoint: Checkpoint, tmp_path: Path, measured: list[str]
) -> None:
    found = patient(checkpoint, dtype="bfloat16", token_budget=333, folder=tmp_path / "none")
    assert (found.dtype, found.token_budget, found.cores) == ("bfloat16", 333, available_cores())
    assert measured == [] and not (tmp_path / "none").exists()


def test_what_is_asked_for_on_a_gpu_is_taken(
    checkpoint: Checkpoint, tmp_path: Path, measured: list[str], gpu: Gpu
) -> None:
    assert patient(checkpoint, "cuda:1", "float16", 4096, folder=tmp_path / "none").options == {
        "dtype": "float16",
        "token_budget": 4096,
        "cores": None,
        "threads": 1,
        "encoder": None,
    }
    assert measured == [] and not (tmp_path / "none").exists()


#: Speeds in multiples of float32's, and cosines to its vectors, of bfloat16 and float16.
FARES = {
    "both alike: the nearer": ((3.0, 0.99992), (3.1, 0.99999), "float16", "3.1 x float32 here, cosine at least 0.9999"),
    "no noise decides": ((3.5, 0.99992), (3.0, 0.99999), "float16", "3.0 x"),
    "the coarser is much faster": ((6.0, 0.99992), (3.0, 0.99999), "bfloat16", "6.0 x"),
    "the coarser is too coarse": ((6.0, 0.99975), (3.0, 0.99999), "float16", "3.0 x"),
    "float16 overflows": ((3.0, 0.99992), (3.0, float("nan")), "bfloat16", "3.0 x"),
    "an old GPU": (
        (1.0, 0.99992),
        (0.5, 0.99999),
        "float32",
        "bfloat16 is only 1.0 x as fast here; float16 is only 0.5",
    ),
    "neither is near": ((3.0, 0.9), (3.0, float("nan")), "float32", "bfloat16 differs, cosine 0.90000 on average"),
}


@pytest.mark.parametrize("fares", FARES.values(), ids=FARES)
def test_a_gpu_computes_in_the_nearest_that_is_fast(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: Gpu, fares: tuple[Any, ...]
) -> None:
    # Given a GPU on which number types fare so
    *halves, dtype, why = fares
    known = {"float32": (1.0, 1.0), **dict(zip(gpu.halves, halves, strict=True))}

    def vectors(self: Trials, dtype: str, texts: list[str], ways: dict[str, Any]) -> tuple[np.ndarray, float]:
        cosine = known[dtype][1]
        return np.array([[cosine, np.sqrt(1 - cosine**2)]] * len(texts)), 1.0

    monkeypatch.setattr(Trials, "vectors", vectors)
    monkeypatch.setattr(Trials, "seconds", lambda self, dtype, *given: 0.3 / known[dtype][0])
    # When tuned
    found = patient(checkpoint, "cuda", folder=tmp_path)
    # Then it computes in that, in batches as the device suits; and so does the next start
    assert found.dtype == dtype and why in found.why
    assert found.encoder is not None and found.encoder.precision == ("float32" if dtype == "float32" else "half")
    assert (found.token_budget, found.cores) == (None, None)
    monkeypatch.delattr(tuning, "choose_precision")
    assert str(patient(checkpoint, "cuda", folder=tmp_path)) == str(found)


def test_a_gpu_is_measured_by_embedding(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[str], gpu: Gpu
) -> None:
    # Given a GPU, which is this processor in truth, where any gain is enough, how many texts a round had, and a
    # device that does a thousand a second, whatever this machine does
    monkeypatch.setattr(precision, "LEAST_GAIN", 0.0)
    monkeypatch.setattr(precision, "_FEW_TEXTS", 4)
    sizes: dict[str, list[int]] = {}
    real = Trials.seconds

    def seconds(self: Trials, dtype: str, texts: list[str], *given: Any) -> float:
        sizes.setdefault(dtype, []).append(len(texts))
        real(self, dtype, texts, *given)
        return len(texts) / 1000

    monkeypatch.setattr(Trials, "seconds", seconds)
    # When tuned
    found = patient(checkpoint, "cuda", folder=tmp_path)
    # Then rounds have grown until they took long enough, and all number types were tried on the last and largest
    assert measured == ["precision"] and "x float32 here, cosine at least 0.999" in found.why
    assert sizes["float32"][:2] == [4, 16] and len(sizes) == 3
    assert {of[-1] for of in sizes.values()} == {max(sizes["float32"])} and len(sizes["float16"]) >= 1
    assert record(tmp_path).dtype == found.dtype and gpu.name in record(tmp_path).key


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), "float16"), ((9, 0), "bfloat16")])
def test_a_gpu_that_cannot_be_measured_computes_in_what_it_multiplies(
    checkpoint: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capability: tuple[int, int],
    dtype: str,
) -> None:
    # Given a GPU of some generation that has no memory for three networks, or no time
    monkeypatch.setattr(tuning, "this_gpu", lambda device: Gpu("cpu", "a wind mill", capability))
    assert tune(checkpoint, "cuda", folder=tmp_path / "late", seconds=0).dtype == dtype
    assert "there was no time to measure" in caplog.text
    monkeypatch.setattr(tuning, "choose_precision", lambda trials: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    found = patient(checkpoint, "cuda", folder=tmp_path)
    assert (found.dtype, found.why) == (dtype, "half precision could not be measured")


def test_a_processor_without_products_of_bfloat16_computes_in_float32(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[str]
) -> None:
    monkeypatch.setattr(tuning, "this_processor", lambda: Processor("an old mill", frozenset({"avx2"}), 1))
    found = patient(checkpoint, folder=tmp_path)
    assert (found.dtype, found.why) == ("float32", "this processor multiplies no bfloat16")
    assert measured == ["batching"] and found.cores == 1


@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize(("flag", "is_told"), [("avx2", True), ("avx512_bf16", False)])
def test_bfloat16_that_is_asked_for_where_it_is_slow_is_told(
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    backend: str,
    flag: str,
    is_told: bool,
) -> None:
    monkeypatch.setattr(tuning, "this_processor", lambda: Processor("a mill", frozenset({flag}), 1))
    assert patient(checkpoint, dtype="bfloat16", token_budget=64, backend=backend).dtype == "bfloat16"
    assert ("--dtype auto is faster here" in caplog.text) == is_told


@pytest.mark.usefixtures("bfloat16")
def test_what_there_is_no_time_for_keeps_its_default_and_is_remembered(
    checkpoint: Checkpoint, tmp_path: Path, measured: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    # Given no time at all
    found = tune(checkpoint, folder=tmp_path, seconds=0)
    # Then everything has its default, and it is said how to have it measured after all
    assert (found.dtype, found.token_budget, found.cores) == ("float32", CPU_TOKEN_BUDGET, available_cores())
    assert "no time" in found.why and "to measure again, remove" in caplog.text
    # And a start with more time chooses the same: jobs may be bound to it
    again = patient(checkpoint, folder=tmp_path)
    assert again.dtype == "float32" and measured == ["precision", "batching"]


@pytest.mark.usefixtures("bfloat16")
def test_measuring_that_fails_costs_no_start(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a machine without room for a second network
    monkeypatch.setattr(tuning, "choose_precision", lambda trials: (_ for _ in ()).throw(RuntimeError("no memory")))
    # When tuned, then it is as it always was, and the next start may try again
    found = patient(checkpoint, folder=tmp_path)
    assert (found.dtype, found.why, found.encoder) == ("float32", "half precision could not be measured", None)
    assert "measuring failed (RuntimeError: no memory)" in caplog.text
    assert record(tmp_path).dtype is None


@pytest.mark.usefixtures("bfloat16")
def test_measuring_that_ends_the_process_is_not_begun_for_ever(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a machine whose kernel ends processes that load two networks
    def die(trials: Trials) -> None:
        raise SystemExit

    monkeypatch.setattr(tuning, "choose_precision", die)
    for _ in range(3):
        with pytest.raises(SystemExit):
            patient(checkpoint, folder=tmp_path)
    # When started once more, then it does without, and says which file stands for that
    found = patient(checkpoint, folder=tmp_path)
    assert found.dtype == "float32" and f"while there is {next(tmp_path.glob('*.json'))}" in caplog.text


def test_a_broken_model_is_told_as_such(tmp_path: Path) -> None:
    checkpoint = resolve(str(make_model(tmp_path / "model", hidden=64)))
    (checkpoint.transformer / "tokenizer.json").write_text("{")
    with pytest.raises(ModelBroken):
        patient(checkpoint, folder=tmp_path / "cache")


@pytest.mark.usefixtures("bfloat16")
def test_several_workers_that_start_at_once_choose_the_same_and_one_measures(
    checkpoint: Checkpoint, tmp_path: Path, measured: list[str]
) -> None:
    # Given three starts in one moment
    found: list[str] = []
    starts = [
        threading.Thread(target=lambda: found.append(str(patient(checkpoint, token_budget=1024, folder=tmp_path))))
        for _ in range(3)
    ]
    for start in starts:
        start.start()
    for start in starts:
        start.join(60)
    # Then all know the same, which was measured once
    assert len(found) == 3 and len(set(found)) == 1 and measured == ["precision"]


def test_the_processor_is_described_by_what_the_kernel_tells(tmp_path: Path) -> None:
    # Given what Linux tells on Intel and AMD, on Arm, and nothing
    x86, arm = tmp_path / "x86", tmp_path / "arm"
    x86.write_text("processor\t: 0\nmodel name\t: A Mill 9\nflags\t\t: fpu avx512_bf16\n\nprocessor\t: 1\n")
    arm.write_text("processor\t: 0\nFeatures\t: fp asimd bf16\nCPU implementer\t: 0x41\nCPU part\t: 0xd49\n")
    # Then name and flags are found, and whether they multiply bfloat16
    found = this_processor(x86)
    assert (found.name, found.flags, found.multiplies_bfloat16) == ("A Mill 9", {"fpu", "avx512_bf16"}, True)
    assert this_processor(arm).multiplies_bfloat16 and this_processor(arm).name == "0x41 0xd49"
    nothing = this_processor(tmp_path / "none")
    assert nothing.flags == frozenset() and not nothing.multiplies_bfloat16 and nothing.name
    # And other flags make another processor
    assert found.identity != Processor(found.name, frozenset({"fpu"}), found.cores).identity
    assert available_cores() == found.cores >= 1


@pytest.mark.parametrize(
    ("told", "cores"), [("100000 100000\n", 1), ("max 100000\n", None), ("50000 100000", 1), ("", None)]
)
def test_a_container_has_as_many_cores_as_its_quota(tmp_path: Path, told: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(told)
    assert available_cores(tmp_path / "cpu.max") == (cores or available_cores())
