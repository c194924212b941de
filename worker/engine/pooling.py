"""Token states to vectors: pooled over the attention mask, cut and normalised, all in float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from storage.contract.models import ModelCard
from storage.contract.options import STORE_DTYPES, JobOptions

#: The largest number of each type that vectors are kept in.
LARGEST = {name: float(np.finfo(name).max) for name in STORE_DTYPES}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How token states become a vector, with every choice made.

    Args:
        pooling: `mean`, `cls`, `max` or `last`.
        normalize: Whether vectors are scaled to length 1.
        dimensions: Keep only the first so many components; None keeps all.
        largest: A component beyond this cannot be kept.
    """

    pooling: str
    normalize: bool
    dimensions: int | None
    largest: float = LARGEST["float32"]

    @classmethod
    def of(cls, options: JobOptions, card: ModelCard) -> Recipe:
        """Return what a job's options mean for a model; cut vectors are normalised unless the job says no."""
        normalize = options.normalize
        if normalize is None:
            normalize = card.normalize or options.dimensions is not None
        return cls(options.pooling or card.pooling, normalize, options.dimensions, LARGEST[options.store_dtype])


def pool(states: Tensor, mask: Tensor | None, pooling: str) -> Tensor:
    """Make one vector of each text's token states.

    Args:
        states: Shape (texts, tokens, components), any float type.
        mask: Shape (texts, tokens): true where there is a token; None where there is one everywhere.
        pooling: `mean`, `cls`, `max` or `last`.

    Returns:
        float32, shape (texts, components).
    """
    if pooling == "cls":
        return states[:, 0].float()
    if pooling == "last":
        if mask is None:
            return states[:, -1].float()
        last = mask.long().sum(dim=1) - 1
        return states[torch.arange(len(states), device=states.device), last].float()
    states = states.float()
    if pooling == "max":
        if mask is not None:
            states = states.masked_fill(~mask.unsqueeze(-1), float("-inf"))
        return states.amax(dim=1)
    if mask is None:
        return states.mean(dim=1)
    weights = mask.unsqueeze(-1).float()
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def finish(vectors: Tensor, recipe: Recipe) -> Tensor:
    """Cut and normalise vectors.

    Args:
        vectors: float32, shape (texts, components).
        recipe: What to keep, and whether to normalise it.
    """
    if recipe.dimensions is not None:
        vectors = vectors[:, : recipe.dimensions]
    return functional.normalize(vectors, dim=1) if recipe.normalize else vectors
