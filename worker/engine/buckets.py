"""Attention on a CPU in bfloat16 over texts laid end to end: those of about the same length at once.

Texts are filled up, for attention alone, to a common width at which softmax runs over whole vector registers; what is
filled up weighs nothing. torch's own kernel multiplies small blocks: where the processor has a matrix unit it is two to
three times as fast as whole products and a softmax of their scores, elsewhere it is busy calling.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from worker.engine.cpu import name_and_flags

#: Longest text that is not left to torch's kernel, in tokens: the scores of one text are a matrix of that size a head.
LONGEST = 512

#: Places of a bucket whose products are computed whole, at most, where no text alone has more. The library prepares
#: itself for each new number of texts and width, which takes a millisecond and 1.4 MB: so there are few, and scores
#: stay in the cache.
_PLACES = 512

#: Widths up to this one are multiples of 16, and softmax computes in float32, which is faster there; above, of 32.
_NARROW = 80

#: Added to the score of what is filled up.
_NEVER = -1e30


@dataclass(frozen=True, slots=True)
class Bucket:
    """Neighbouring texts that attend together.

    Args:
        start: The first token of the first text.
        end: The token after the last one.
        texts: How many they are.
        width: Tokens that each is filled up to.
        rows: Which token stands at each of texts x width places, any token where there is none; None where no text
            needs filling up.
        kept: Which of these places hold a token; None as above.
        absent: What is added to the scores of each place, shape (texts, 1, 1, width); None as above.
    """

    start: int
    end: int
    texts: int
    width: int
    rows: Tensor | None = None
    kept: Tensor | None = None
    absent: Tensor | None = None


def buckets_of(lengths: list[int], in_blocks: bool) -> list[Bucket]:
    """Divide texts into buckets.

    Args:
        lengths: Tokens of each text; few buckets come of it where neighbours are about equally long.
        in_blocks: Whether they attend by torch's own kernel; see `blocks_are_fast`.
    """
    found, start = [], 0
    for width, group in itertools.groupby(lengths, _width):
        tokens = list(group)
        most = len(tokens) if in_blocks else max(1, _PLACES // width)
        for first in range(0, len(tokens), most):
            found.append(_bucket(start, tokens[first : first + most], width))
            start = found[-1].end
    return found


def attend_in_buckets(
    query: Tensor, key: Tensor, value: Tensor, buckets: list[Bucket], scale: float, in_blocks: bool
) -> Tensor:
    """Let each text attend to itself alone.

    Args:
        query: bfloat16 on a CPU, shape (tokens or more, heads, components of a head).
        key: The same shape.
        value: The same shape.
        buckets: Where the texts lie.
        scale: What scores are multiplied with.
        in_blocks: Whether by torch's own kernel, else by whole products; see `blocks_are_fast`.

    Returns:
        The same shape; zeros after the last text.
    """
    _, heads, components = query.shape
    mixed = torch.empty_like(query, memory_format=torch.contiguous_format)
    attend = _in_blocks if in_blocks else _by_products
    for bucket in buckets:
        shape = (bucket.texts, bucket.width, heads, components)
        found = attend([_laid_out(part, bucket, shape) for part in (query, key, value)], bucket, scale).transpose(1, 2)
        into = mixed[bucket.start : bucket.end]
        if bucket.kept is None:
            into.view(shape).copy_(found)
        else:
            torch.index_select(found.flatten(0, 1), 0, bucket.kept, out=into)
    mixed[buckets[-1].end :] = 0
    return mixed


@cache
def blocks_are_fast() -> bool:
    """Tell whether small blocks of bfloat16 are multiplied about as fast as large ones: Intel's matrix unit does so."""
    may_use = os.environ.get("ONEDNN_MAX_CPU_ISA", "DEFAULT").upper()
    return "amx_bf16" in name_and_flags()[1] and (may_use in ("DEFAULT", "ALL") or "AMX" in may_use)


@cache
def products_are_fast() -> bool:
    """Tell whether batches of bfloat16 matrices are multiplied by a library here, and not one number at a time."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


def _width(tokens: int) -> int:
    step = 16 if tokens <= _NARROW else 32
    return -(-tokens // step) * step


def _bucket(start: int, tokens: list[int], width: int) -> Bucket:
    lengths = np.array(tokens)
    end = start + int(lengths.sum())
    places = np.arange(width)
    present = places < lengths[:, None]
    if present.all():
        return Bucket(start, end, len(tokens), width)
    first = start + np.cumsum(lengths) - lengths
    rows = torch.from_numpy(np.where(present, first[:, None] + places, first[:, None]).reshape(-1))
    absent = torch.from_numpy(np.where(present, 0.0, _NEVER)).bfloat16()[:, None, None]
    return Bucket(start, end, len(tokens), width, rows, torch.from_numpy(np.flatnonzero(present)), absent)


def _laid_out(part: Tensor, bucket: Bucket, shape: tuple[int, ...]) -> Tensor:
    """Return a part for a bucket, shape (texts, heads, width, components)."""
    taken = part[bucket.start : bucket.end] if bucket.rows is None else part.index_select(0, bucket.rows)
    return taken.view(shape).transpose(1, 2)


def _in_blocks(parts: list[Tensor], bucket: Bucket, scale: float) -> Tensor:
    asked, offered, given = parts
    return scaled_dot_product_attention(asked, offered, given, attn_mask=bucket.absent, scale=scale)


def _by_products(parts: list[Tensor], bucket: Bucket, scale: float) -> Tensor:
    heads = parts[0].shape[1]
    asked, offered, given = (part.contiguous().flatten(0, 1) for part in parts)
    scores = _scores(asked, offered.transpose(1, 2), bucket, heads, scale)
    return torch.bmm(_weights(scores), given).view(bucket.texts, heads, bucket.width, -1)


def _scores(asked: Tensor, offered: Tensor, bucket: Bucket, heads: int, scale: float) -> Tensor:
    if bucket.absent is None:
        return torch.baddbmm(asked.new_empty(1, 1, 1), asked, offered, beta=0, alpha=scale)
    absent = bucket.absent.expand(-1, heads, -1, -1).flatten(0, 1)
    return torch.baddbmm(absent, asked, offered, alpha=scale)


def _weights(scores: Tensor) -> Tensor:
    if scores.shape[2] > _NARROW:
        return torch.softmax(scores, 2)
    return torch.softmax(scores, 2, dtype=torch.float32).to(scores.dtype)
