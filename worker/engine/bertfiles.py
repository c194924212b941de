"""BERT's build, read from a folder's files: its modules under transformers' names, without importing transformers.

That import takes seconds and 140 MiB. What is read here is used only where it was seen to answer as transformers' own
network does; see `likeness.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from worker.engine.jsonfile import read_object
from worker.engine.weights import weight_files

#: Families of that build; those that keep a place free for padding in the table of positions.
_FAMILIES = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
_WITH_PADDING = ("camembert", "roberta", "xlm-roberta")

#: What says that a network computes something else: present and true.
_OTHER_BUILD = ("is_decoder", "add_cross_attention", "quantization_config", "transformers_weights", "embedding_size")

#: Beside the weights, it makes another network of them where PEFT is installed.
_ADAPTER = "adapter_config.json"

#: transformers' own value where a config has none.
_EPSILON = 1e-12

#: Names of long ago, as transformers renames them.
_RENAMED = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))

#: Every network keeps its words there; what stands before is the prefix of all its tensors.
_WORDS = "embeddings.word_embeddings.weight"
_WIDE = "encoder.layer.0.intermediate.dense.bias"


@dataclass(frozen=True, slots=True)
class BertShape:
    """What `FlatBert` asks a network's config.

    Args:
        num_attention_heads: Heads of each layer.
    """

    num_attention_heads: int


def read_bert(folder: Path, dtype: torch.dtype) -> nn.Module | None:
    """Read a network, or None where the files are not plainly those of BERT's build: transformers must read them.

    Args:
        folder: Where its config and weights lie.
        dtype: What it is to compute in.

    Raises:
        ModelBroken: When the config is no JSON object, or shards are missing.
        Exception: Of other kinds, by safetensors and torch, when the weights are damaged or fit no network.
    """
    config = read_object(folder / "config.json")
    layers, heads = config.get("num_hidden_layers"), config.get("num_attention_heads")
    is_plain = _is_plain(config) and not (folder / _ADAPTER).exists()
    if not is_plain or not isinstance(layers, int) or not isinstance(heads, int):
        return None
    tensors = _tensors(folder)
    if _WORDS not in tensors or _WIDE not in tensors:
        return None
    padding = config.get("pad_token_id", 1) if config["model_type"] in _WITH_PADDING else None
    with torch.device("meta"):
        network = _network(config.get("layer_norm_eps", _EPSILON), padding, layers, tensors)
    wanted = network.state_dict()
    found = {name: tensors.pop(name) for name in wanted if name in tensors}
    strange = [name for name in tensors if name.startswith(("embeddings.", "encoder.")) and not name.endswith("_ids")]
    if strange or any(name not in found or found[name].shape != tensor.shape for name, tensor in wanted.items()):
        return None
    network.load_state_dict({name: tensor.to(dtype) for name, tensor in found.items()}, assign=True)
    network.config = BertShape(heads)  # type: ignore[assignment]
    return network.requires_grad_(False).eval()


def _is_plain(config: dict[str, Any]) -> bool:
    absolute = config.get("position_embedding_type", "absolute") in (None, "absolute")
    narrow = config.get("embedding_size") == config.get("hidden_size")
    other = any(config.get(name) for name in _OTHER_BUILD if not (name == "embedding_size" and narrow))
    return config.get("model_type") in _FAMILIES and absolute and not other and config.get("hidden_act") == "gelu"


def _tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a folder by the names they have in a network that has no head."""
    found: dict[str, Tensor] = {}
    for file in weight_files(folder):
        found |= load_file(file)
    prefix = next((name.removesuffix(_WORDS) for name in found if name.endswith(_WORDS)), "")
    named = {}
    for name, tensor in found.items():
        for old, new in _RENAMED:
            name = name.replace(old, new)
        named[name.removeprefix(prefix)] = tensor
    return named


def _network(epsilon: float, padding: int | None, layers: int, tensors: dict[str, Tensor]) -> nn.Module:
    words, hidden = tensors[_WORDS].shape
    places, kinds = (
        len(tensors.get(f"embeddings.{name}_embeddings.weight", ())) for name in ("position", "token_type")
    )
    wide = len(tensors[_WIDE])

    def norm() -> nn.LayerNorm:
        return nn.LayerNorm(hidden, epsilon)

    def layer() -> nn.Module:
        parts = {name: nn.Linear(hidden, hidden) for name in ("query", "key", "value")}
        answer = _module(dense=nn.Linear(hidden, hidden), LayerNorm=norm())
        narrow = _module(dense=nn.Linear(wide, hidden), LayerNorm=norm())
        attention = _module(self=_module(**parts), output=answer)
        return _module(attention=attention, intermediate=_module(dense=nn.Linear(hidden, wide)), output=narrow)

    embeddings = _module(
        word_embeddings=nn.Embedding(words, hidden),
        position_embeddings=nn.Embedding(places, hidden, padding_idx=padding),
        token_type_embeddings=nn.Embedding(kinds, hidden),
        LayerNorm=norm(),
    )
    return _module(embeddings=embeddings, encoder=_module(layer=nn.ModuleList(layer() for _ in range(layers))))


def _module(**parts: nn.Module) -> nn.Module:
    made = nn.Module()
    for name, part in parts.items():
        made.add_module(name, part)
    return made
