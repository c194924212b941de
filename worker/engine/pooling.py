"""Token states to vectors: pooled text by text, cut and normalised, all in float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from storage.contract.models import ModelCard
from storage.contract.options import NO_POOLING, STORE_DTYPES, JobOptions

#: The largest number of each type that vectors are kept in.
LARGEST = {name: float(np.finfo(name).max) for name in STORE_DTYPES}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How token states become a vector, with every choice made.

    Args:
        pooling: As for `pool`; or `none`, which leaves the states of tokens as they are.
        normalize: Whether vectors are scaled to length 1.
        dimensions: Keep only the first so many components; None keeps all.
        largest: A component beyond this cannot be kept.
    """

    pooling: str
    normalize: bool
    dimensions: int | None
    largest: float = LARGEST["float32"]

    @property
    def each_token(self) -> bool:
        """Whether each token's state is kept, and not one vector of each text."""
        return self.pooling == NO_POOLING

    @classmethod
    def of(cls, options: JobOptions, card: ModelCard) -> Recipe:
        """Return what a job's options mean for a model; cut vectors are normalised unless the job says no."""
        if options.pooling == NO_POOLING:
            return cls(NO_POOLING, False, None, LARGEST[options.store_dtype])
        normalize = options.normalize
        if normalize is None:
            normalize = card.normalize or options.dimensions is not None
        return cls(options.pooling or card.pooling, normalize, options.dimensions, LARGEST[options.store_dtype])


def pool(states: Tensor, offsets: Tensor, pooling: str) -> Tensor:
    """Make one vector of each text's token states; the same one in any company.

    Args:
        states: Shape (tokens of all texts, components), any float type.
        offsets: int32, shape (texts + 1,): where each text begins, and where the last one ends.
        pooling: `mean`, `cls`, `max` or `last`; or one that only a model's files name: `mean_sqrt_len_tokens`, the sum
            divided by the root of the number of tokens, or `weightedmean`, which weighs each by its place, from 1.

    Returns:
        float32, shape (texts, components).
    """
    if pooling == "cls":
        return states.index_select(0, offsets[:-1]).float()
    if pooling == "last":
        return states.index_select(0, offsets[1:] - 1).float()
    if pooling == "mean_sqrt_len_tokens":
        return pool(states, offsets, "mean") * offsets.diff().sqrt()[:, None]
    if pooling == "weightedmean":
        lengths = offsets.diff()
        before = offsets[:-1].repeat_interleave(lengths, output_size=len(states))
        places = torch.arange(1, len(states) + 1, device=states.device) - before
        # The mean of weighted states divides by the number of tokens, and not by the sum of their places.
        return pool(states.float() * places[:, None], offsets, "mean") * (2 / (lengths + 1))[:, None]
    if pooling == "mean" and not states.is_cuda:
        # The same sums, five times as fast on a CPU as the general operator below.
        each = torch.arange(len(states), dtype=offsets.dtype)
        return functional.embedding_bag(each, states.float(), offsets, mode="mean", include_last_offset=True)
    # The offsets are ours: checking them would have a GPU waited for.
    return torch.segment_reduce(states.float(), pooling, offsets=offsets, axis=0, unsafe=True)


def finish(vectors: Tensor, recipe: Recipe) -> Tensor:
    """Cut and normalise vectors.

    Args:
        vectors: float32, shape (texts, components).
        recipe: What to keep, and whether to normalise it.
    """
    if recipe.dimensions is not None:
        vectors = vectors[:, : recipe.dimensions]
    return functional.normalize(vectors, dim=1) if recipe.normalize else vectors
