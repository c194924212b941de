"""Attention within each of many texts laid end to end: one flash kernel on a GPU, runs of equal length elsewhere.

transformers' own networks come here too, by the name below, with or without padding. Their positions alone would not
keep texts apart: without a function like this one, each text attends to all the others of its batch.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from worker.engine.buckets import LONGEST, attend_in_buckets, blocks_are_fast, products_are_fast
from worker.engine.packed import Packed

#: What transformers knows this attention by.
NAME = "embedmill"


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
    """Tell whether `attend` is there for a device and a number type; torch's flash kernels know only half precision."""
    return device.type == "cpu" or (dtype in (torch.float16, torch.bfloat16) and _flash() is not None)


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


def _attend_for_transformers(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed: Packed | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Take and return what transformers' attention functions do: (1, heads, tokens, components) where it is packed."""
    if packed is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **rest)
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    return attend(q, k, v, packed, sliding_window, scaling)[None], None


def _mask_for_transformers(attention_mask: Tensor | None = None, **rest: Any) -> Tensor | None:
    """Return no mask where texts lie end to end: what is not packed comes with a mask of its padding, always."""
    return None if attention_mask is None else sdpa_mask(attention_mask=attention_mask, **rest)


AttentionInterface.register(NAME, _attend_for_transformers)
AttentionMaskInterface.register(NAME, _mask_for_transformers)
