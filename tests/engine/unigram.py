"""Unigram tokenizers as SentencePiece's models come to hubs: small, with a compiled map of characters."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

from tests.models import CHARACTERS, WORDS, write_json

#: What the compiled map makes of characters, as NFKC does.
REPLACED = {"ﬁ": "fi", "…": "...", "Ａ": "A", "\u3000": " ", "\n": " ", "\t": " "}

_LETTERS = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZéèçäöü0123456789.,;:!?'\"()-，。"

#: Classes of transformers' tokenizers: the family they belong to, their special tokens in order, what begins and ends.
CLASSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "XLMRobertaTokenizer": ("xlm-roberta", ("<s>", "<pad>", "</s>", "<unk>", "<mask>")),
    "CamembertTokenizer": ("camembert", ("<s>", "<pad>", "</s>", "<unk>", "<mask>")),
    "AlbertTokenizer": ("albert", ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")),
    "DebertaV2Tokenizer": ("deberta-v2", ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")),
}


def charsmap(replaced: dict[str, str]) -> bytes:
    """Compile a map of characters as SentencePiece does: a double array trie, then the strings that it points to.

    Args:
        replaced: What becomes of each; none may be the beginning of another.
    """
    units, strings, nodes = [0] * 512, b"", {b"": 256}
    units[0] = 256 << 10
    for old, new in replaced.items():
        key = old.encode()
        for end in range(1, len(key) + 1):
            head = key[:end]
            place = nodes[head[:-1]] + head[-1]
            if head not in nodes:
                nodes[head] = len(units)
                units += [0] * 256
                units[place] = (place ^ nodes[head]) << 10 | head[-1]
        units[nodes[key[:-1]] + key[-1]] |= 1 << 8
        units[nodes[key]] = 1 << 31 | len(strings)
        strings += new.encode() + b"\0"
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + strings


def write_unigram(folder: Path, name: str, newer: bool = False) -> Path:
    """Write a tokenizer's files over those of a folder, in the form that hubs have them.

    Args:
        folder: Where to; made when it is not there.
        name: The class that they name, one of `CLASSES`.
        newer: Whether in the form that later versions wrote, which part no words before they look for pieces.
    """
    family, special = CLASSES[name]
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [*_LETTERS, *CHARACTERS, *(f"▁{word}" for word in WORDS), "ing", "er", "▁re", "fi", "..."]
    vocabulary = [(token, 0.0) for token in special]
    vocabulary += [(piece, -1.0 - place / 100) for place, piece in enumerate(dict.fromkeys(reversed(pieces)))]
    unknown = next(token for token in special if "unk" in token.lower())
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=special.index(unknown)))
    tokenizer.normalizer, tokenizer.pre_tokenizer = _before(name, newer)
    start, end = ("<s>", "</s>") if "<s>" in special else ("[CLS]", "[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B {end}",
        special_tokens=[(start, special.index(start)), (end, special.index(end))],
    )
    tokenizer.add_special_tokens(list(special))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {
        "tokenizer_class": name,
        "pad_token": next(token for token in special if "pad" in token.lower()),
        "unk_token": unknown,
        "cls_token": start,
        "sep_token": end,
        "bos_token": start,
        "eos_token": end,
        "mask_token": special[-1],
        "model_max_length": 512,
    }
    if name == "AlbertTokenizer":
        settings |= {"do_lower_case": True, "keep_accents": False}
    write_json(folder / "tokenizer_config.json", settings)
    known = json.loads((folder / "config.json").read_text()) if (folder / "config.json").exists() else {}
    write_json(folder / "config.json", known | {"model_type": family})
    return folder


def _before(name: str, newer: bool) -> tuple[Any, Any]:
    """Return what a class does to a text, and how it parts it, before it looks for pieces."""
    compiled = normalizers.Precompiled(charsmap(REPLACED))
    words = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    parted = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), words])
    if name == "DebertaV2Tokenizer":
        blanks = normalizers.Replace(Regex(" {2,}"), " ")
        return normalizers.Sequence([normalizers.Strip(), compiled, blanks]), words
    if name == "AlbertTokenizer":
        marks = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        plain = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
        return normalizers.Sequence([*marks, *plain, compiled]), parted
    if newer:
        blanks = normalizers.Replace(Regex(" {2,}"), "▁")
        return normalizers.Sequence([compiled, normalizers.Strip(left=False, right=True), blanks]), words
    return compiled, parted
