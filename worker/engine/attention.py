"""Attention within each of many texts laid end to end: one flash kernel on a GPU, buckets or runs elsewhere."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.buckets import LONGEST, attend_in_buckets, blocks_are_fast, products_are_fast
from worker.engine.packed import Packed


def attend(
    query: Tensor, key: Tensor, value: Tensor, packed: Packed, window: int | None = None, scale: float | None = None
) -> Tensor:
    """Let each text attend to itself alone.

    Args:
        query: Shape (tokens or more, heads, components of a head); on a GPU in half precision.
        key: The same shape.
        value: The same shape.
        packed: Where the texts lie.
        window: A token sees those less than so many places away; None sees the whole text.
        scale: What scores are multiplied with; None takes one over the square root of the components.

    Returns:
        The same shape; zeros after the last text.
    """
    if query.is_cuda:
        return _attend_at_once(query, key, value, packed, window, scale)
    if window is None and query.dtype is torch.bfloat16 and packed.longest <= LONGEST and products_are_fast():
        scale = scale or query.shape[2] ** -0.5
        return attend_in_buckets(query, key, value, packed.buckets, scale, blocks_are_fast())
    mixed = torch.empty_like(query, memory_format=torch.contiguous_format)
    for start, texts, tokens in packed.runs:
        end = start + texts * tokens
        shape = (texts, tokens, *query.shape[1:])
        q, k, v = (part[start:end].view(shape).transpose(1, 2) for part in (query, key, value))
        mask = None if window is None or window >= tokens else _band(tokens, window, query.device)
        found = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        mixed[start:end].view(shape).copy_(found.transpose(1, 2))
    mixed[len(packed.ids) :] = 0
    return mixed


def can_attend(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether `attend` is there for a device and a number type.

    torch's flash kernels know half precision alone, and need a GPU of compute capability 8 (Ampere) or later.
    """
    if device.type == "cpu":
        return True
    is_old = torch.cuda.is_available() and torch.cuda.get_device_capability(device) < (8, 0)
    return dtype in (torch.float16, torch.bfloat16) and not is_old and _flash() is not None


def _attend_at_once(
    query: Tensor, key: Tensor, value: Tensor, packed: Packed, window: int | None, scale: float | None
) -> Tensor:
    # What is not needed is not named: older releases of torch do not know every option.
    options: dict[str, Any] = {}
    if window is not None:
        options["window_size"] = (window - 1, window - 1)
    if scale is not None and scale != query.shape[-1] ** -0.5:
        options["scale"] = scale
    offsets, longest = packed.offsets, packed.longest
    mixed: Tensor = _flash()(query, key, value, offsets, offsets, longest, longest, **options)
    return mixed


@cache
def _flash() -> Any:
    """Return torch's attention over texts of unequal length (2.10 or later), or None; imported late, as it costs."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


def _band(tokens: int, window: int, device: torch.device) -> Tensor:
    places = torch.arange(tokens, device=device)
    return (places[:, None] - places).abs() < window
