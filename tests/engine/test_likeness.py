"""A network read from its files without transformers: the same answers, and used only where that was seen."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from storage.contract.errors import ModelBroken
from tests.engine.ends import packed_of, texts_of
from tests.engine.packing import states_alone
from tests.models import make_model
from worker.engine import likeness
from worker.engine.batching import Packing
from worker.engine.bertfiles import read_bert
from worker.engine.checkpoint import resolve
from worker.engine.encoder import Encoder
from worker.engine.likeness import Likeness

FAMILIES = ("bert", "camembert", "electra", "roberta", "xlm-roberta")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's likenesses are remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def model(folder: Path, kind: str = "bert", **settings: object) -> Path:
    narrow = {"embedding_size": 64} if kind == "electra" else {}
    return make_model(folder / kind, kind, hidden=64, layers=2, **narrow, **settings)


def is_known(folder: Path, dtype: torch.dtype = torch.float32) -> bool:
    return Likeness(resolve(str(folder)), dtype).is_known


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_second_start_has_the_same_states_and_needs_no_transformers(tmp_path: Path, kind: str) -> None:
    # Given a model that was started once
    folder, texts = model(tmp_path, kind), texts_of()
    assert not is_known(folder)
    first = Encoder(resolve(str(folder)), "cpu", "float32")
    assert is_known(folder) and not is_known(folder, torch.bfloat16)
    # When a process starts it again
    program = """
import sys, numpy as np, torch
from tests.engine.ends import packed_of, texts_of
from worker.engine.checkpoint import resolve
from worker.engine.encoder import Encoder
import worker.engine.processor # counts cores, as a worker's engine has it do first
torch.set_num_threads(int(sys.argv[3]))
encoder = Encoder(resolve(sys.argv[1]), "cpu", "float32")
with torch.inference_mode():
    for layer in (-1, 0, 1):
        np.save(f"{sys.argv[2]}/{layer}.npy", encoder.forward_flat(packed_of(texts_of()), layer).numpy())
print(encoder.vocabulary, "transformers" in sys.modules)
"""
    command = [sys.executable, "-c", program, folder, tmp_path, str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True)
    # Then it does so without transformers, and the states are the same numbers, and transformers' own
    assert done.stdout.split() == [str(first.vocabulary), "False"], done.stderr
    own = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        for layer in (-1, 0, 1):
            found = torch.from_numpy(np.load(tmp_path / f"{layer}.npy"))
            assert torch.equal(found, first.forward_flat(packed_of(texts), layer))
            torch.testing.assert_close(found, states_alone(own, texts, layer), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["distilbert", "mpnet", "modernbert", "albert"])
def test_another_family_is_left_to_transformers(tmp_path: Path, kind: str) -> None:
    folder = make_model(tmp_path / kind, kind, hidden=64, layers=2)
    assert read_bert(folder, torch.float32) is None
    Encoder(resolve(str(folder)), "cpu", "float32")
    assert not is_known(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_act": "relu"},
        {"hidden_act": "gelu_new"},
        {"position_embedding_type": "relative_key"},
        {"add_cross_attention": True},
        {"quantization_config": {"quant_method": "fp8"}},
        {"embedding_size": 32},
        {"num_hidden_layers": 3},
        {"num_attention_heads": None},
    ],
)
def test_a_config_that_says_more_is_left_to_transformers(tmp_path: Path, settings: dict[str, object]) -> None:
    folder = model(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    assert read_bert(folder, torch.float32) is not None
    (folder / "config.json").write_text(json.dumps(config | settings))
    assert read_bert(folder, torch.float32) is None


def renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names of long ago, in a network with a head."""
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in tensors.items()}
    old = {name.replace("LayerNorm.bias", "LayerNorm.beta"): tensor for name, tensor in old.items()}
    named = {f"bert.{name}": tensor for name, tensor in old.items()}
    return named | {"cls.predictions.bias": torch.zeros(3), "bert.embeddings.position_ids": torch.arange(512)}


@pytest.mark.parametrize(
    ("change", "is_read"),
    [
        (renamed, True),
        (lambda tensors: {name: tensor.half() for name, tensor in tensors.items()}, True),
        (lambda tensors: tensors | {"encoder.layer.0.adapter.weight": torch.zeros(2)}, False),
        (lambda tensors: {name: tensor for name, tensor in tensors.items() if "layer.1.output" not in name}, False),
        (lambda tensors: tensors | {"encoder.layer.1.output.dense.bias": torch.zeros(7)}, False),
    ],
)
def test_weights_are_read_whatever_their_names_and_refused_where_they_do_not_fit(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], is_read: bool
) -> None:
    folder, texts = model(tmp_path), texts_of()
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
    found = read_bert(folder, torch.float32)
    assert (found is not None) == is_read
    if is_read:
        encoder, own = Encoder(resolve(str(folder)), "cpu", "float32"), AutoModel.from_pretrained(folder).float().eval()
        assert is_known(folder)
        with torch.inference_mode():
            states = encoder.forward_flat(packed_of(texts), -1)
            torch.testing.assert_close(states, states_alone(own, texts, -1), atol=1e-5, rtol=1e-5)


def test_shards_are_read(tmp_path: Path) -> None:
    folder = model(tmp_path)
    whole = read_bert(folder, torch.float32)
    AutoModel.from_pretrained(folder).save_pretrained(folder, max_shard_size="100KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    parts = read_bert(folder, torch.float32)
    assert whole is not None and parts is not None
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name


def test_a_network_that_answers_otherwise_is_neither_used_nor_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given files that are read wrongly
    folder, texts = model(tmp_path), texts_of()

    def wrong(folder: Path, dtype: torch.dtype) -> torch.nn.Module | None:
        network = read_bert(folder, dtype)
        assert network is not None
        network.encoder.layer[1].output.dense.weight.mul_(1.5)
        return network

    monkeypatch.setattr(likeness, "read_bert", wrong)
    # When the model is loaded
    encoder, own = Encoder(resolve(str(folder)), "cpu", "float32"), AutoModel.from_pretrained(folder).eval()
    # Then transformers' weights are used, and the next start compares again
    with torch.inference_mode():
        states = encoder.forward_flat(packed_of(texts), -1)
        torch.testing.assert_close(states, states_alone(own, texts, -1), atol=1e-5, rtol=1e-5)
    assert not is_known(folder)


@pytest.mark.parametrize("table", ["embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"])
def test_weights_that_no_comparison_of_answers_sees_are_compared_too(tmp_path: Path, table: str) -> None:
    # Given a file that holds a table twice, under two prefixes, which differ in a row that few texts have
    folder = model(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    named = {f"bert.{name}": tensor for name, tensor in tensors.items()}
    other = tensors[table].clone()
    other[-1] += 1
    save_file(named | {table: other}, folder / "model.safetensors", {"format": "pt"})
    # When the model is loaded, then it is transformers' row that counts, now and at every start
    encoder = Encoder(resolve(str(folder)), "cpu", "float32")
    own = AutoModel.from_pretrained(folder).state_dict()[table]
    assert encoder.packing is Packing.SORTED
    assert not is_known(folder) or torch.equal(read_weights(folder)[table], own)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    network = read_bert(folder, torch.float32)
    assert network is not None
    return network.state_dict()


def test_comparisons_that_end_the_process_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a machine that has no memory for two networks
    folder = model(tmp_path)
    seen = []

    def killed(folder: Path, dtype: torch.dtype) -> None:
        seen.append(dtype)
        raise SystemExit

    monkeypatch.setattr(likeness, "read_bert", killed)
    for _ in range(3):
        with pytest.raises(SystemExit):
            Encoder(resolve(str(folder)), "cpu", "float32")
    # When the model is loaded once more, then it is without a comparison
    assert Encoder(resolve(str(folder)), "cpu", "float32").vocabulary > 0
    assert len(seen) == 3


def test_an_adapter_beside_the_weights_is_left_to_transformers(tmp_path: Path) -> None:
    folder = model(tmp_path)
    (folder / "adapter_config.json").write_text("{}")
    assert read_bert(folder, torch.float32) is None


def test_other_files_are_compared_anew(tmp_path: Path) -> None:
    folder = model(tmp_path)
    Encoder(resolve(str(folder)), "cpu", "float32")
    assert is_known(folder)
    model(tmp_path, seed=8)
    assert not is_known(folder)


def test_damaged_weights_of_a_known_model_are_told_as_ever(tmp_path: Path) -> None:
    folder = model(tmp_path)
    checkpoint = resolve(str(folder))
    Encoder(checkpoint, "cpu", "float32")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelBroken, match="cannot be loaded"):
        Encoder(checkpoint, "cpu", "float32")


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    folder = model(tmp_path)
    for _ in range(2):
        assert Encoder(resolve(str(folder)), "cpu", "float32").vocabulary > 0
    assert not is_known(folder)
