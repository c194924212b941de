"""transformers' own network of a folder, loaded from its files and never from the hub."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils import logging as transformers_logging

from storage.contract.errors import ModelBroken


def load_network(folder: Path, dtype: torch.dtype) -> Any:
    """Load transformers' own network of a folder.

    Args:
        folder: Where its config and weights lie.
        dtype: What it is to compute in.

    Raises:
        ModelBroken: When the files do not make a whole network.
    """
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
            network_class: Any = MODEL_MAPPING[type(config)]
            unused = "add_pooling_layer" in inspect.signature(network_class).parameters
            network, report = network_class.from_pretrained(
                str(folder),
                config=config,
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                **({"add_pooling_layer": False} if unused else {}),
            )
    except Exception as error:  # transformers, safetensors and torch raise many kinds; each means the files are unfit
        first = str(error).strip().partition("\n")[0]
        raise ModelBroken(
            f"{folder} cannot be loaded ({type(error).__name__}: {first}).", "Download or save the model again."
        ) from error
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise ModelBroken(
            f"The weights in {folder} lack {len(missing)} tensors of the network, the first is {missing[0]}.",
            "Download or save the model again.",
        )
    layers = getattr(network.config, "num_hidden_layers", 0)
    strange = sorted(name for name in report["unexpected_keys"] if _is_of_the_network(name, layers))
    if strange:
        raise ModelBroken(
            f"The weights in {folder} have {len(strange)} tensors that its network has no place for, the first is"
            f" {strange[0]}: without them it would compute something else than was trained.",
            "Compare its config.json with the model that was trained, and save the model again.",
        )
    for parameter in network.parameters():
        if parameter.dtype is not dtype:
            # Made in float32, whatever was asked for; it would meet others in a product (DeBERTa's biases).
            parameter.data = parameter.data.to(dtype)
    return network.eval()


def _is_of_the_network(name: str, layers: int) -> bool:
    """Tell weights of layers and embeddings from those of heads, and from what old versions kept beside weights.

    Layers above those that the config asks for were left out on purpose.
    """
    layer = re.search(r"\.layers?\.(\d+)\.", name)
    if layer is not None and int(layer[1]) >= layers:
        return False
    return re.search(r"(^|\.)(embeddings|encoder)\.", name) is not None and not name.endswith(("_ids", "inv_freq"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bar and its report of unused tensors off the terminal while a model is loaded."""
    log: Any = transformers_logging
    verbosity, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bar:
            log.enable_progress_bar()
