"""Model folders: what is read from whole ones, and what is said of those that cannot be served."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.contract.errors import ModelBroken, ModelRefused
from storage.contract.models import DEFAULT_MODEL
from tests.models import add_layout, edit_json, make_model, write_json
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.encoder import Encoder

#: The prompts of a model whose files have none.
EMPTY = {"query": "", "document": ""}


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A whole model folder that a test may damage."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def test_the_default_model_is_the_installed_package(minilm: Checkpoint) -> None:
    assert minilm.name == DEFAULT_MODEL
    assert (minilm.layers, minilm.hidden, minilm.width, minilm.max_length) == (6, 384, 384, 256)
    assert (minilm.pooling, minilm.normalize, minilm.prompts, minilm.dense) == ("mean", True, EMPTY, ())
    assert (minilm.is_assumed, minilm.truncate_dim) == (False, None)
    assert len(minilm.revision) == 40
    assert resolve(DEFAULT_MODEL, minilm.revision).folder == minilm.folder


def test_a_bare_folder_is_an_encoder_with_mean_pooling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    found = resolve("model")
    assert found.name == str(folder.resolve())
    assert (found.pooling, found.normalize, found.width, found.max_length) == ("mean", False, 64, 512)
    assert (found.is_assumed, found.prompts) == (True, EMPTY)
    card = found.card("float32")
    assert (card.name, card.revision, card.layers) == (found.name, found.revision, 2)


def test_the_revision_of_a_folder_follows_its_content(folder: Path) -> None:
    before = resolve(str(folder)).revision
    (folder / "README.md").write_text("notes do not matter")
    assert resolve(str(folder)).revision == before
    edit_json(folder / "tokenizer_config.json", model_max_length=100)
    assert resolve(str(folder)).revision != before


def test_a_folder_is_not_taken_for_another_revision(folder: Path) -> None:
    with pytest.raises(ModelRefused, match="not abc123"):
        resolve(str(folder), "abc123")


@pytest.mark.parametrize(
    ("kind", "settings", "tokenizer_limit", "expected"),
    [
        ("bert", None, 512, 512),
        ("bert", None, 100, 100),
        ("bert", None, 1e30, 512),
        ("bert", {"max_seq_length": 77}, 512, 77),
        ("bert", {"max_seq_length": 9999}, 512, 512),
        ("bert", {"max_seq_length": None}, 90, 90),
        ("roberta", None, 1e30, 512),
        ("mpnet", {"max_seq_length": 514}, 512, 512),
    ],
)
def test_the_maximum_length_is_the_least_that_the_files_say(
    tmp_path: Path, kind: str, settings: dict[str, Any] | None, tokenizer_limit: float, expected: int
) -> None:
    folder = make_model(tmp_path, kind, hidden=64, layers=1)
    edit_json(folder / "tokenizer_config.json", model_max_length=tokenizer_limit)
    if settings is not None:
        add_layout(folder, settings=settings)
    assert resolve(str(folder)).max_length == expected


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"word_embedding_dimension": 64}, "mean"),
        ({"embedding_dimension": 64, "pooling_mode": "lasttoken"}, "last"),
        ({"embedding_dimension": 64, "pooling_mode": ["cls"]}, "cls"),
        ({"pooling_mode_weightedmean_tokens": True}, "weightedmean"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
    ],
)
def test_pooling_files_old_and_new_are_read(folder: Path, pooling: dict[str, Any], expected: str) -> None:
    assert resolve(str(add_layout(folder, pooling, normalize=True))).pooling == expected


def test_prompts_are_read(folder: Path) -> None:
    found = resolve(str(add_layout(folder, prompts={"query": "find: "}, default_prompt_name="query")))
    assert (found.prompts, found.default_prompt_name) == (EMPTY | {"query": "find: "}, "query")
    found = resolve(str(add_layout(folder, prompts={}, default_prompt_name="document")))
    assert (found.prompts, found.default_prompt_name) == (EMPTY, "document")


def test_module_types_of_version_6_are_read(folder: Path) -> None:
    add_layout(folder, normalize=True)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "sentence_transformers.base.modules.transformer.Transformer"
    modules[1]["type"] = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
    write_json(folder / "modules.json", modules)
    assert resolve(str(folder)).normalize is True


def cut_weights(folder: Path, size: int) -> None:
    os.truncate(folder / "model.safetensors", size)


def sharded(folder: Path) -> None:
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    write_json(folder / "model.safetensors.index.json", {"weight_map": shards})
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no configuration": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "configuration that is no JSON": (
        lambda f: (f / "config.json").write_text("{oops"),
        "config.json is not valid JSON",
    ),
    "configuration that is a list": (lambda f: (f / "config.json").write_text("[]"), "holds no JSON object"),
    "configuration without a type": (lambda f: edit_json(f / "config.json", model_type=None), "names no model_type"),
    "configuration without a width": (
        lambda f: edit_json(f / "config.json", hidden_size=None),
        "does not say hidden_size",
    ),
    "weights cut off in the data": (lambda f: cut_weights(f, 100_000), "truncated or damaged: 100000 bytes"),
    "weights cut off in the header": (lambda f: cut_weights(f, 500), "truncated or is no safetensors file"),
    "weights cut to nothing": (lambda f: cut_weights(f, 0), "truncated or is no safetensors file"),
    "weights with something behind": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes() + b"more"),
        "truncated or damaged",
    ),
    "weights that are a pointer": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
        "Git LFS pointer, not weights. Run `git lfs pull`",
    ),
    "weights that are something else": (
        lambda f: (f / "model.safetensors").write_bytes((16).to_bytes(8, "little") + b"x" * 16),
        "no readable safetensors header",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
    "a missing shard": (sharded, "lacks 1 of 2 shards: model-00002-of-00002.safetensors"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
    "no pooling configuration": (
        lambda f: (add_layout(f) / "1_Pooling" / "config.json").unlink(),
        "the pooling module has no configuration",
    ),
    "prompts that are a list": (lambda f: add_layout(f, prompts=["query: "]), "The prompts in .* are no JSON object"),
    "a width in words": (
        lambda f: (add_layout(f), edit_json(f / "config_sentence_transformers.json", truncate_dim="half")),
        "has the truncate_dim 'half'",
    ),
    "a longest text in words": (
        lambda f: edit_json(f / "tokenizer_config.json", model_max_length="all"),
        "model_max_length 'all'",
    ),
    "a default prompt that is not there": (
        lambda f: add_layout(f, prompts={"query": "q"}, default_prompt_name="other"),
        "default prompt 'other', but has no such prompt",
    ),
}


@pytest.mark.parametrize("why", BROKEN)
def test_a_broken_folder_is_named_with_what_is_wrong(folder: Path, why: str) -> None:
    damage, message = BROKEN[why]
    damage(folder)
    with pytest.raises(ModelBroken, match=message):
        resolve(str(folder))


def test_the_old_name_of_a_tokenizers_limit_is_read(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", model_max_length=None, max_len=128)
    assert resolve(str(folder)).max_length == 128
    edit_json(folder / "tokenizer_config.json", model_max_length=90)
    assert resolve(str(folder)).max_length == 90


def test_a_folder_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelBroken, match="There is no model folder"):
        resolve(str(tmp_path / "nowhere"))


def test_a_hub_name_without_a_hub_says_what_else_to_do(tmp_path: Path) -> None:
    program = "from worker.engine.checkpoint import resolve; resolve('somebody/some-encoder', 'v2')"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    last = done.stderr.strip().splitlines()[-1]
    assert "ModelBroken: The model somebody/some-encoder at revision v2 is neither a folder" in last
    assert "give the path of a local model folder instead" in last


def test_a_snapshot_in_the_hubs_cache_needs_no_hub(folder: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--somebody--some-encoder"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(folder, repository / "snapshots" / commit)
    program = (
        "from worker.engine.checkpoint import resolve; c = resolve('somebody/some-encoder'); print(c.name, c.revision)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["somebody/some-encoder", commit]


def test_weights_that_lack_a_tensor_are_not_filled_up_at_random(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelBroken, match=r"lack 1 tensors .* encoder\.layer\.1\.output\.dense\.weight"):
        Encoder(resolve(str(folder)))


def test_weights_that_the_network_has_no_place_for_are_not_left_out(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    # Given weights of relative positions, which transformers would drop without a word
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.attention.self.distance_embedding.weight"] = weights["embeddings.LayerNorm.weight"].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelBroken, match=r"have 1 tensors .* encoder\.layer\.0\.attention\.self\.distance_embedding"):
        Encoder(resolve(str(folder)))


def test_weights_of_heads_and_numbered_ids_are_left_out(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights |= {"cls.predictions.bias": weights["embeddings.LayerNorm.bias"].clone()}
    weights |= {"embeddings.position_ids": weights["embeddings.LayerNorm.bias"].clone()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert Encoder(resolve(str(folder))).vocabulary > 0


def test_weights_of_another_shape_are_broken(folder: Path) -> None:
    edit_json(folder / "config.json", intermediate_size=96)
    with pytest.raises(ModelBroken, match="cannot be loaded"):
        Encoder(resolve(str(folder)))
