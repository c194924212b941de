"""Models that are whole but of a kind that is not served: each refused with the reason, and what is near it served."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.contract.errors import ModelBroken, ModelRefused
from tests.models import add_layout, edit_json, make_model, write_json
from worker.engine.checkpoint import resolve
from worker.engine.encoder import Encoder


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A whole model folder that a test may change."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def with_module(folder: Path, kind: str) -> None:
    add_layout(folder)
    modules = json.loads((folder / "modules.json").read_text())
    write_json(folder / "modules.json", [*modules, {"path": "3_More", "type": kind}])


def without_modules(folder: Path, architecture: str) -> None:
    edit_json(folder / "config.json", architectures=[architecture])


def only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def with_pickled_dense(folder: Path) -> None:
    with_module(folder, "sentence_transformers.models.Dense")
    write_json(folder / "3_More" / "config.json", {"in_features": 64, "out_features": 8})
    (folder / "3_More" / "pytorch_model.bin").write_bytes(b"pickled")


def normalizing(folder: Path, **config: object) -> None:
    write_json(add_layout(folder, normalize=True) / "2_Normalize" / "config.json", config)


def only(folder: Path, file: str, tokenizer_class: str | None) -> None:
    """Leave a folder one file of a tokenizer's, and the name of its class."""
    (folder / "tokenizer.json").unlink()
    (folder / file).write_text("river")
    edit_json(folder / "tokenizer_config.json", tokenizer_class=tokenizer_class)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "remote code of the network": (
        lambda f: edit_json(f / "config.json", auto_map={"AutoModel": "evil.Model"}),
        "config.json has an auto_map: this model runs code of its own",
    ),
    "remote code of the tokenizer": (
        lambda f: edit_json(f / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokens", None]}),
        "tokenizer_config.json has an auto_map",
    ),
    "pickles": (only_pickles, r"only pickled weights .* convert it with transformers: AutoModel.from_pretrained"),
    "pickles of a module": (
        with_pickled_dense,
        r"3_More holds only pickled weights .* with sentence-transformers: SentenceTransformer\('.*model'\)\.save\(",
    ),
    "remote code of a family that came with it once": (
        lambda f: edit_json(f / "config.json", model_type="bert", auto_map={"AutoModel": "nomic.NomicBertModel"}),
        "runs code of its own",
    ),
    "a model that ranks pairs": (
        lambda f: without_modules(f, "BertForSequenceClassification"),
        "a BertForSequenceClassification, which was not trained to make one vector of a text",
    ),
    "a model that marks tokens": (lambda f: without_modules(f, "BertForTokenClassification"), "TokenClassification"),
    "a model that finds answers": (lambda f: without_modules(f, "BertForQuestionAnswering"), "QuestionAnswering"),
    "a model of late interaction": (lambda f: without_modules(f, "HF_ColBERT"), "describes a HF_ColBERT"),
    "relative positions": (
        lambda f: edit_json(f / "config.json", position_embedding_type="relative_key_query"),
        "position_embedding_type 'relative_key_query', which transformers no longer computes",
    ),
    "a tokenizer in Python": (
        lambda f: only(f, "vocab.txt", "BertJapaneseTokenizer"),
        "has a BertJapaneseTokenizer, which transformers has in Python alone",
    ),
    "normalised tokens": (
        lambda f: normalizing(f, module_input_name="token_embeddings"),
        "2_Normalize/config.json works on sentence_embedding, token_embeddings",
    ),
    "unknown architecture": (
        lambda f: edit_json(f / "config.json", model_type="llama"),
        "model_type 'llama', which is not served. Served are: albert, bert,",
    ),
    "decoder": (lambda f: edit_json(f / "config.json", is_decoder=True), "a decoder, not an encoder"),
    "unknown module": (
        lambda f: with_module(f, "sentence_transformers.models.LSTM"),
        "lists the modules Transformer, Pooling, LSTM",
    ),
    "module of its own": (lambda f: with_module(f, "evil.Module"), "evil.Module .* is code of its own"),
    "two poolings": (
        lambda f: add_layout(f, {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}),
        "asks for the pooling max and mean. Served is one of: mean, cls, max, last",
    ),
    "a pooling that is a number": (lambda f: add_layout(f, {"pooling_mode": 7}), "asks for the pooling 7"),
    "a pooling that is an object": (lambda f: add_layout(f, {"pooling_mode": [{}]}), "asks for the pooling {}"),
    "prompts left out of the pooling": (
        lambda f: add_layout(f, {"pooling_mode_mean_tokens": True, "include_prompt": False}),
        "include_prompt=false",
    ),
    "settings that change tokens": (
        lambda f: add_layout(f, settings={"processing_kwargs": {"text": {"padding": "max_length"}}}),
        "sets processing_kwargs, which is not served",
    ),
    "another kind of model": (
        lambda f: (add_layout(f), edit_json(f / "config_sentence_transformers.json", model_type="SparseEncoder")),
        "describes a SparseEncoder",
    ),
    "module outside the folder": (
        lambda f: write_json(f / "modules.json", [{"path": "../x", "type": "sentence_transformers.models.Pooling"}]),
        "outside the folder",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_served_is_refused_with_the_reason(folder: Path, why: str) -> None:
    damage, message = REFUSED[why]
    damage(folder)
    with pytest.raises(ModelRefused, match=message):
        resolve(str(folder))


def test_a_sentencepiece_model_alone_needs_the_package_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    only(folder, "spiece.model", None)
    with pytest.raises(ModelBroken, match=r"spiece.model and no tokenizer.json: .* Install it \(pip install sentencep"):
        resolve(str(folder))


def test_what_says_how_it_is_pooled_is_served_whatever_its_network_is_called(folder: Path) -> None:
    # Given the base of a masked language model, and a classifier that was made an embedder of
    without_modules(folder, "BertForMaskedLM")
    assert resolve(str(folder)).is_assumed
    without_modules(folder, "BertForSequenceClassification")
    assert not resolve(str(add_layout(folder))).is_assumed


@pytest.mark.parametrize("kind", ["eurobert", "gte", "jina_embeddings_v3", "nomic_bert"])
def test_code_that_transformers_needs_no_more_is_passed_over(tmp_path: Path, kind: str) -> None:
    # Given a model whose config names code of its own, of a family that transformers has come to know
    folder = make_model(tmp_path, kind, hidden=64, layers=1)
    edit_json(folder / "config.json", auto_map={"AutoModel": "evil.Model"})
    (folder / "evil.py").write_text("raise SystemExit('this must not run')")
    # Then it is transformers' own network that is loaded
    assert Encoder(resolve(str(folder))).vocabulary > 0
