"""Invented words: texts of so many tokens, and a model with random weights that knows each word as one token."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from worker.engine.checkpoint import Checkpoint, resolve

Texts = list[str]

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = ["".join(parts) for parts in itertools.product("bdfgklmnprstvz", "aeiou", "bdfgklmnprst", "aeiou", "lnrs")]


def lengths_of(kind: str, tokens: int, longest: int, dice: np.random.Generator) -> NDArray[np.int64]:
    """Draw texts' lengths until they add up.

    Args:
        kind: `mixed`, log-normal with a mean of about 128, or the one length that all have.
        tokens: How many in all, about, special ones included.
        longest: No text is longer.
        dice: Where chance comes from.
    """
    count = max(8, tokens // 8)
    if kind == "mixed":
        drawn = dice.lognormal(np.log(93), 0.8, count).round().clip(8, longest).astype(np.int64)
    else:
        drawn = np.full(count, min(int(kind), longest))
    return drawn[: max(8, int(np.searchsorted(np.cumsum(drawn), tokens)))]


def texts_of(lengths: NDArray[np.int64], dice: np.random.Generator) -> Texts:
    """Make texts of known words, one token each, beside two special tokens."""
    words = np.array(_WORDS)[dice.integers(0, len(_WORDS), int(lengths.sum()))]
    ends = np.cumsum(lengths - 2)
    return [" ".join(words[end - size : end]) for end, size in zip(ends, lengths - 2, strict=True)]


def make_model(folder: Path, layers: int, hidden: int, heads: int) -> Checkpoint:
    """Save a BERT with random weights, far enough from zero that texts differ, and its tokenizer."""
    from tokenizers import Tokenizer as Library
    from tokenizers import models, normalizers, pre_tokenizers, processors

    vocabulary = {piece: number for number, piece in enumerate([*_SPECIAL, *_WORDS])}
    library = Library(models.WordPiece(vocabulary, unk_token="[UNK]"))
    library.normalizer, library.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    library.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    folder.mkdir()
    library.save(str(folder / "tokenizer.json"))
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named | {"model_max_length": 512}))
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
    )
    torch.manual_seed(7)
    network = transformers.BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    network.save_pretrained(folder)
    return resolve(str(folder))
