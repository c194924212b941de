"""Which networks are served, and what their config.json says of their shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.contract.errors import ModelBroken, ModelRefused
from worker.engine.jsonfile import read_object

#: Encoder families that transformers' Auto classes load without remote code, each covered by a test.
FAMILIES = frozenset(
    {
        "albert",
        "bert",
        "camembert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "eurobert",
        "gte",
        "jina_embeddings_v3",
        "modernbert",
        "mpnet",
        "nomic_bert",
        "roberta",
        "xlm-roberta",
    }
)

#: Families whose positions turn queries and keys: what a config says of a table of positions is another program's.
_ROTARY = frozenset({"eurobert", "gte", "jina_embeddings_v3", "modernbert", "nomic_bert"})

#: Families that came with code of their own before transformers knew them: the code that a config names is not needed.
_CAME_WITH_CODE = frozenset({"eurobert", "gte", "jina_embeddings_v3", "nomic_bert"})

#: Ends of the names of networks whose vectors, pooled, were never trained to mean anything.
_OTHER_TASKS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "ForNextSentencePrediction",
    "ColBERT",
)

#: Families that count positions from the one after the padding id, so that many rows of the table are never used.
_POSITIONS_AFTER_PADDING = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta"})
_PADDING_ID = 1

_LAYERS = ("num_hidden_layers", "n_layers")
_HIDDEN = ("hidden_size", "dim")


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of an encoder.

    Args:
        family: transformers' `model_type`.
        layers: Number of transformer layers.
        hidden: Components of a token state.
        positions: Most tokens of one text that it has positions for.
    """

    family: str
    layers: int
    hidden: int
    positions: int


def read_architecture(folder: Path) -> Architecture:
    """Read config.json.

    Args:
        folder: Where the encoder's config.json lies.

    Raises:
        ModelRefused: When the network needs remote code, is of no family that is served, or is no encoder.
        ModelBroken: When the file is missing or lacks what every encoder has.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelBroken(f"{folder} has no config.json.", "Give the folder that a model was saved to.")
    config = read_object(path)
    family = config.get("model_type")
    if family not in _CAME_WITH_CODE:
        _refuse_remote_code(config, path)
    _refuse_remote_code(read_object(folder / "tokenizer_config.json"), folder / "tokenizer_config.json")
    if family is None:
        raise ModelBroken(f"{path} names no model_type.", "Save the model again with transformers.")
    if family not in FAMILIES:
        raise ModelRefused(
            f"{path} is of model_type {family!r}, which is not served.", f"Served are: {', '.join(sorted(FAMILIES))}."
        )
    if config.get("is_decoder") or config.get("is_encoder_decoder"):
        raise ModelRefused(f"{path} describes a decoder, not an encoder.", "Give a model that was trained to encode.")
    _refuse_relative_positions(config, family, path)
    positions = _count(config, ("max_position_embeddings",), path)
    if family in _POSITIONS_AFTER_PADDING:
        padding = config.get("pad_token_id")
        positions -= 1 + (_PADDING_ID if padding is None or family == "mpnet" else int(padding))
    return Architecture(family, _count(config, _LAYERS, path), _count(config, _HIDDEN, path), positions)


def refuse_other_tasks(folder: Path) -> None:
    """Refuse a network that was trained for something else than one vector of a text, by the name in its config.json.

    Only where nothing else says how its states become a vector: the base of a masked language model is served.

    Args:
        folder: Where the encoder's config.json lies.

    Raises:
        ModelRefused: When it ranks pairs, classifies, finds answers, or makes a vector of each token (ColBERT).
    """
    named = read_object(folder / "config.json").get("architectures") or []
    other = next((name for name in map(str, named) if name.endswith(_OTHER_TASKS)), None)
    if other is not None:
        raise ModelRefused(
            f"{folder / 'config.json'} describes a {other}, which was not trained to make one vector of a text.",
            "Give a model that was trained to embed. If this one is an encoder's base all the same, say how its states"
            " are pooled: save it with sentence-transformers, which writes a modules.json.",
        )


def _refuse_relative_positions(config: dict[str, Any], family: str, path: Path) -> None:
    """Refuse what transformers 5 would compute otherwise than it was trained: it knows these kinds no more."""
    kind = config.get("position_embedding_type")
    if kind not in (None, "absolute") and family not in _ROTARY:
        raise ModelRefused(
            f"{path} has the position_embedding_type {kind!r}, which transformers no longer computes.",
            "Use a model whose positions are absolute.",
        )


def _refuse_remote_code(config: dict[str, Any], path: Path) -> None:
    if config.get("auto_map"):
        raise ModelRefused(
            f"{path} has an auto_map: this model runs code of its own, which is never done.",
            "Use a model of an architecture that transformers knows itself.",
        )


def _count(config: dict[str, Any], names: tuple[str, ...], path: Path) -> int:
    value = next((config[name] for name in names if name in config), None)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelBroken(f"{path} does not say {names[0]}.", "Save the model again with transformers.")
    return value
