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
        "modernbert",
        "mpnet",
        "roberta",
        "xlm-roberta",
    }
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
    _refuse_remote_code(config, path)
    _refuse_remote_code(read_object(folder / "tokenizer_config.json"), folder / "tokenizer_config.json")
    family = config.get("model_type")
    if family is None:
        raise ModelBroken(f"{path} names no model_type.", "Save the model again with transformers.")
    if family not in FAMILIES:
        raise ModelRefused(
            f"{path} is of model_type {family!r}, which is not served.", f"Served are: {', '.join(sorted(FAMILIES))}."
        )
    if config.get("is_decoder") or config.get("is_encoder_decoder"):
        raise ModelRefused(f"{path} describes a decoder, not an encoder.", "Give a model that was trained to encode.")
    positions = _count(config, ("max_position_embeddings",), path)
    if family in _POSITIONS_AFTER_PADDING:
        padding = config.get("pad_token_id")
        positions -= 1 + (_PADDING_ID if padding is None or family == "mpnet" else int(padding))
    return Architecture(family, _count(config, _LAYERS, path), _count(config, _HIDDEN, path), positions)


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
