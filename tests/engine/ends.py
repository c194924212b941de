"""Texts laid end to end, for tests; imports no transformers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from worker.engine.packed import Packed

LENGTHS = [12, 12, 5, 40, 3, 1]


def texts_of(lengths: list[int] = LENGTHS, seed: int = 1) -> list[Tensor]:
    dice = np.random.default_rng(seed)
    return [torch.from_numpy(dice.integers(5, 100, tokens)) for tokens in lengths]


def packed_of(texts: list[Tensor]) -> Packed:
    lengths = np.array([len(text) for text in texts])
    return Packed.of(torch.cat(texts).numpy(), lengths, torch.device("cpu"))
