"""How many floating-point operations a network needs for a text, counted by torch on a copy without weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_MAPPING

#: Three lengths decide what is for each text, for each token, and for each pair of tokens.
_LENGTHS = (32, 64, 128)


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of the matrix products of one forward pass; an addition and a multiplication are two.

    Args:
        a_token: Of the linear layers, for each token.
        a_pair: Of attention, for each pair of tokens of a text.
    """

    a_token: float
    a_pair: float

    def of(self, lengths: Iterable[int]) -> float:
        """Return how many operations texts of these lengths need, without any padding."""
        return sum(self.a_token * length + self.a_pair * length * length for length in lengths)


def count_flops(folder: Path) -> Flops:
    """Count the operations of a network.

    Args:
        folder: Where its config.json lies; its weights are not read.
    """
    config: Any = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    try:
        counts = [_count(config, length, "meta") for length in _LENGTHS]
    except RuntimeError:  # a network whose path depends on its numbers needs some
        counts = [_count(config, length, "cpu") for length in _LENGTHS]
    (x, y, z), (short, middle, long) = _LENGTHS, counts
    slope_low, slope_high = (middle - short) / (y - x), (long - middle) / (z - y)
    a_pair = (slope_high - slope_low) / (z - x)
    return Flops(slope_low - a_pair * (x + y), a_pair)


def _count(config: Any, length: int, device: str) -> int:
    with torch.device(device):
        network_class: Any = MODEL_MAPPING[type(config)]
        network = network_class(config).eval()
        ids = torch.ones(1, length, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(input_ids=ids)
    return int(counter.get_total_flops())
