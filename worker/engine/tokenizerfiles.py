"""A folder's tokenizer, built as transformers builds it, but without importing transformers where that can be avoided.

transformers rebuilds the tokenizers of some families from tokenizer_config.json and so overrules tokenizer.json; the
same is done here, or a folder whose two files disagree would give other ids than the classic call.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer, Lowercase, Sequence
from tokenizers.pre_tokenizers import ByteLevel

from storage.contract.errors import ModelBroken
from worker.engine.jsonfile import read_object

_WORDPIECE_CLASSES = frozenset({"BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer"})
_BYTE_LEVEL_CLASSES = frozenset({"RobertaTokenizer"})
_CLASS_OF_FAMILY = {
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "ernie": "BertTokenizer",
    "nomic_bert": "BertTokenizer",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
}

#: Families whose named class transformers ignores, because many folders name the wrong one.
_CLASS_IGNORED = frozenset({"modernbert"})

_USUAL_PADDING = ("[PAD]", "<pad>")


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """What a folder says of its tokenizer.

    Args:
        tokenizer: The tokenizer, with its own truncation and padding cleared.
        pad_id: The id that fills up.
        cut_left: Whether a long text loses its beginning instead of its end.
        pad_left: Whether the classic call fills up at the beginning.
    """

    tokenizer: Tokenizer
    pad_id: int
    cut_left: bool
    pad_left: bool


def load_tokenizer(folder: Path, lower_case: bool) -> TokenizerFiles:
    """Build the tokenizer of a folder.

    Args:
        folder: Where the tokenizer's files lie.
        lower_case: Whether texts are lower-cased before the tokenizer's own normalizer.

    Raises:
        ModelBroken: When its files are damaged.
    """
    config = read_object(folder / "tokenizer_config.json")
    try:
        if (folder / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            _overrule(tokenizer, config, read_object(folder / "config.json").get("model_type", ""))
        else:
            tokenizer = _converted(folder)
    except ModelBroken:
        raise
    except Exception as error:  # tokenizers raises bare Exceptions, transformers many kinds
        raise ModelBroken(f"The tokenizer of {folder} cannot be loaded ({error}).", "Save it again.") from error
    own_truncation, own_padding = tokenizer.truncation or {}, tokenizer.padding or {}
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if lower_case:
        _lower_case_first(tokenizer)
    return TokenizerFiles(
        tokenizer,
        pad_id=_pad_id(folder, config, tokenizer, own_padding),
        cut_left=config.get("truncation_side", own_truncation.get("direction")) == "left",
        pad_left=config.get("padding_side", own_padding.get("direction")) == "left",
    )


def _overrule(tokenizer: Tokenizer, config: dict[str, Any], family: str) -> None:
    named = str(config.get("tokenizer_class") or _CLASS_OF_FAMILY.get(family, "")).removesuffix("Fast")
    if family in _CLASS_IGNORED:
        return
    if named in _WORDPIECE_CLASSES and isinstance(tokenizer.model, WordPiece):
        tokenizer.normalizer = BertNormalizer(
            clean_text=True,
            handle_chinese_chars=config.get("tokenize_chinese_chars", True),
            strip_accents=config.get("strip_accents"),
            lowercase=config.get("do_lower_case", True),
        )
    elif named in _BYTE_LEVEL_CLASSES and isinstance(tokenizer.pre_tokenizer, ByteLevel):
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=config.get("add_prefix_space", False))


def _converted(folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    return Tokenizer.from_str(loaded.backend_tokenizer.to_str())


def _lower_case_first(tokenizer: Tokenizer) -> None:
    own: Any = tokenizer.normalizer
    parts: list[Any] = [] if own is None else [own]
    if type(own) is Sequence:
        parts = [own[place] for place in range(len(own))]
    if not any(isinstance(part, Lowercase) for part in parts):
        tokenizer.normalizer = Sequence([Lowercase(), *parts])


def _pad_id(folder: Path, config: dict[str, Any], tokenizer: Tokenizer, own_padding: dict[str, Any]) -> int:
    named = config.get("pad_token") or read_object(folder / "special_tokens_map.json").get("pad_token")
    if isinstance(named, dict):
        named = named.get("content")
    for token in (named, own_padding.get("pad_token"), *_USUAL_PADDING):
        found = tokenizer.token_to_id(token) if isinstance(token, str) else None
        if found is not None:
            return int(found)
    return 0
