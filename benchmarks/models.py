"""The models that are measured: the default one, and one of BERT-base's shape with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from storage.contract.models import DEFAULT_MODEL
from worker.engine.source import content_hash, locate

#: Where what takes long to make is kept: random weights, exported models.
CACHE = Path(__file__).resolve().parents[1] / "build" / "benchmarks"

MODELS = ("minilm", "bert-base")


def model_folder(name: str) -> Path:
    """Return the folder of a model, making it when it is not there.

    Args:
        name: One of `MODELS`.
    """
    default = locate(DEFAULT_MODEL, None).folder
    return default if name == "minilm" else _bert_base(default)


def export_folder(folder: Path) -> Path:
    """Return where exports of a model are kept: a folder for each content."""
    kept = CACHE / f"exports-{content_hash(folder)[:12]}"
    kept.mkdir(parents=True, exist_ok=True)
    return kept


def _bert_base(default: Path) -> Path:
    """Make random weights of BERT-base's shape (12 layers, 768 wide) with the default model's tokenizer and layout."""
    done = CACHE / "bert-base"
    if done.exists():
        return done
    import torch
    from transformers import BertConfig, BertModel

    folder = done.with_suffix(".part")
    shutil.copytree(default, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
    pooling = folder / "1_Pooling" / "config.json"
    told = json.loads(pooling.read_text(encoding="utf-8"))
    pooling.write_text(json.dumps(told | {"word_embedding_dimension": 768}), encoding="utf-8")
    torch.manual_seed(7)
    BertModel(BertConfig(vocab_size=30_522), add_pooling_layer=False).save_pretrained(folder)
    folder.rename(done)
    return done
