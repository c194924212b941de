"""`embedmill bench`: what is counted and measured is the model's, and the verdict follows from it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from storage.contract.errors import InvalidFile
from tests.models import WORDS, make_model
from worker.bench.bench import measure
from worker.bench.flops import count_flops
from worker.bench.matrixrate import matrix_rate
from worker.bench.measuring import REFUSED, NotMeasured, run
from worker.bench.report import Report, Stage
from worker.bench.texts import file_texts, made_texts
from worker.devices import CPU
from worker.engine.checkpoint import resolve
from worker.engine.tokenizing import Tokenizer
from worker.settings import WorkerSettings

HIDDEN, LAYERS, INTERMEDIATE = 64, 2, 128

STAGES = ["tokenize", "form batches", "forward", "pool", "write vectors"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("small"), "bert", hidden=HIDDEN, layers=LAYERS)


def _four_words() -> Iterator[str]:
    """Texts without end, each of four words that the vocabulary knows whole: six tokens with the special ones."""
    return (" ".join(words) for words in itertools.cycle(itertools.permutations(WORDS[:12], 4)))


def _report(device: str = "cpu", rate: float = 5e12, **seconds: float) -> Report:
    """A report of a model that needs 1 MFLOP a token and made 1,000 tokens in a millisecond: a million a second."""
    costs = dict.fromkeys(STAGES, 0.1) | {"forward": 10.0} | {name.replace("_", " "): s for name, s in seconds.items()}
    stages = tuple(Stage(name, cost, 1000, 4 if name == "tokenize" else 1) for name, cost in costs.items())
    return Report("m", "r", device, "float32", "as asked", 2, 10, 1000, 0.001, stages, 0.05, 1e6, rate)


def test_operations_are_those_of_the_layers_and_of_attention(small: Path, tmp_path: Path) -> None:
    # Given a network of a known shape, when its operations are counted
    found = count_flops(small)
    # Then they are two for each weight of a layer's six matrices, and two products for each pair of tokens
    assert found.a_token == LAYERS * 2 * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INTERMEDIATE)
    assert found.a_pair == LAYERS * 4 * HIDDEN
    # And texts of 3 and 5 tokens need those of 8 tokens and of 9 + 25 pairs
    assert found.of([3, 5]) == 8 * found.a_token + 34 * found.a_pair
    # And a network that cannot be counted without numbers is counted with some
    strange = count_flops(make_model(tmp_path, "deberta-v2", hidden=HIDDEN, layers=LAYERS))
    assert strange.a_token >= found.a_token and strange.a_pair >= found.a_pair


@pytest.mark.parametrize("precision", ["float32", "half", "int8"])
def test_every_precision_has_a_rate_of_matrix_products(precision: str) -> None:
    # Given nothing but the processor, when its products are measured for a moment
    rate = matrix_rate(64, precision, torch.device("cpu"), 2, 0.02)
    # Then there is a rate, and more operations a second than any interpreter would do
    assert rate > 1e7


def test_a_measurement_holds_every_stage_and_fits_the_model(small: Path, tmp_path: Path) -> None:
    # Given a small model and texts that all have six tokens
    checkpoint = resolve(str(small))
    assert set(Tokenizer(checkpoint).encode(list(itertools.islice(_four_words(), 50)), 512).lengths) == {6}
    # When it is measured for a moment
    found = measure(WorkerSettings(model=str(small), dtype="float32"), "cpu", _four_words(), 1.0)
    # Then it is named, every stage is there and saw as many tokens, and none was free
    assert (found.model, found.revision, found.device) == (checkpoint.name, checkpoint.revision, "cpu")
    assert [stage.name for stage in found.stages] == STAGES
    assert len({stage.tokens for stage in found.stages}) == 1
    assert all(stage.seconds > 0 for stage in found.stages if stage.name in ("tokenize", "forward", "write vectors"))
    # And tokens, operations and padding are those of texts of six tokens
    assert found.tokens == 6 * found.texts > 0
    flops = count_flops(small)
    assert found.flops_a_token == pytest.approx(flops.a_token + 6 * flops.a_pair)
    assert found.padding == 0
    # And what is worked out follows from what was measured
    told = found.to_dict()
    assert told["tokens_per_second"] == pytest.approx(found.tokens / found.seconds, rel=0.01)
    assert told["floor_share"] == pytest.approx(
        found.tokens / found.seconds * found.flops_a_token / found.matrix_rate, rel=0.01
    )


def test_the_dearest_stage_limits_a_cpu_and_the_slowest_a_gpu() -> None:
    # Given stages of which the encoder is the dearest, or tokenizing, which four cores share
    assert _report().slowest.name == "forward"
    assert _report(tokenize=20.0).slowest.name == "tokenize"
    # When the device is a GPU, then tokenizing on four cores beside it is no longer the slowest
    assert _report("cuda", tokenize=20.0).slowest.name == "forward"
    assert _report("cuda", tokenize=50.0).slowest.name == "tokenize"
    assert "CPU cores" in _report("cuda", tokenize=50.0).verdict


@pytest.mark.parametrize(("rate", "share", "advice"), [(1.25e12, "80%", "fewer bits"), (5e12, "20%", "token budget")])
def test_the_verdict_tells_how_near_the_floor_the_encoder_is(rate: float, share: str, advice: str) -> None:
    # Given an encoder at a million tokens a second, when products would allow so many, then both are told
    assert share in _report(rate=rate).verdict and advice in _report(rate=rate).verdict


def test_the_lines_of_a_file_come_again_as_other_texts(tmp_path: Path) -> None:
    # Given a file with two texts and a blank line
    (tmp_path / "texts.txt").write_text("rain\n\nsnow\n", encoding="utf-8")
    # When five texts are taken
    found = list(itertools.islice(file_texts(tmp_path / "texts.txt"), 5))
    # Then the file is read again, and no text comes twice
    assert found == ["rain", "snow", "2 rain", "2 snow", "3 rain"]


@pytest.mark.parametrize(("content", "told"), [(None, "cannot be read"), (b"\xff\xfe", "UTF-8"), (b"\n \n", "no text")])
def test_a_file_without_texts_is_refused(content: bytes | None, told: str, tmp_path: Path) -> None:
    # Given a file that is not there, is no text, or is blank
    if content is not None:
        (tmp_path / "texts.txt").write_bytes(content)
    # When it is to be measured with, then that is told
    with pytest.raises(InvalidFile, match=told):
        file_texts(tmp_path / "texts.txt")


def test_made_texts_are_the_same_in_every_run() -> None:
    # Given two runs, when texts are made, then they are the same, and hardly any comes twice
    first, second = (list(itertools.islice(made_texts(), 100)) for _ in range(2))
    assert first == second and len(set(first)) > 95


def test_a_folder_with_packages_named_as_ours_is_no_obstacle(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given somebody in a folder of their own program, which has a `storage` too
    (tmp_path / "storage.py").write_text("raise SystemExit(99)\n")
    monkeypatch.chdir(tmp_path)
    # When a file is to be measured that is not there, then ours tells that it is refused
    with pytest.raises(NotMeasured) as found:
        run(WorkerSettings(model=str(small)), CPU, 1.0, tmp_path / "none.txt")
    assert found.value.code == REFUSED


def test_errors_of_a_text_do_not_end_a_measurement(small: Path) -> None:
    # Given texts much longer than the model reads
    texts: Any = itertools.repeat("river " * 2000)
    # When they are measured, then each counts as many tokens as are read of it
    found = measure(WorkerSettings(model=str(small), dtype="float32"), "cpu", texts, 1.0)
    assert found.tokens == found.texts * resolve(str(small)).max_length
