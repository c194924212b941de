"""Which network computes no padding: found by trying, and used only where it answers as the padded one does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worker.engine.attention import can_attend
from worker.engine.flatbert import flatten
from worker.engine.packed import Packed
from worker.engine.packednetwork import PackedNetwork

#: Takes texts laid end to end and the number of a layer; returns the states of that layer, shape (tokens, components).
FlatNetwork = Callable[[Packed, int], Tensor]

#: How far the states of a text may be from those of the padded network, in parts of their length, by number type. What
#: a type rounds away is a third of it at most (24 layers); a text that saw others, or a wrong position, was above it in
#: every network tried.
_TOLERANCES = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}

#: Tokens of the texts that are tried: equal ones, unequal ones, one alone, one longer than a window of attention is.
_LENGTHS = (9, 9, 7, 100, 3, 1)

_log = logging.getLogger(__name__)


def without_padding(network: Any, dtype: torch.dtype, first: FlatNetwork | None = None) -> FlatNetwork | None:
    """Return a network that takes texts laid end to end, or None where batches must be padded.

    Args:
        network: What transformers loaded, on its device, in `dtype`, and never to be trained; it stays usable.
        dtype: What it computes in.
        first: One that is preferred to those made of `network`, where it answers alike too.
    """
    kind = type(network).__name__
    if not can_attend(network.device, dtype):
        _log.info("batches are padded: there is no attention over packed ones in %s on %s", dtype, network.device)
        return None
    own = network.config._attn_implementation
    try:
        with torch.inference_mode():
            texts, wanted = _reference(network)
            for candidate in _candidates(network, dtype, first):
                fault = _fault(candidate, texts, wanted, _TOLERANCES[dtype])
                if fault is None:
                    return candidate
                _log.warning("%s: %s %s", kind, type(candidate).__name__, fault)
    except Exception as error:  # torch and transformers raise many kinds; whichever it is, padding works
        _log.info("batches are padded: %s cannot be packed (%s: %s)", kind, type(error).__name__, error)
    if network.config._attn_implementation != own:
        network.set_attn_implementation(own)
    return None


def _fault(candidate: FlatNetwork, texts: Packed, wanted: Tensor, tolerance: float) -> str | None:
    """Return what is wrong with a network, or None where it answers as the padded one does."""
    try:
        is_alike = _difference(candidate(texts, -1), wanted, texts.lengths) <= tolerance
    except Exception as error:  # as above; the next one may work
        return f"fails ({type(error).__name__}: {error})"
    return None if is_alike else "answers otherwise than the padded network"


def _candidates(network: Any, dtype: torch.dtype, first: FlatNetwork | None) -> Iterator[FlatNetwork]:
    if first is not None:
        yield first
    flat = flatten(network, dtype)
    if flat is not None:
        yield flat
    yield PackedNetwork(network)


def _reference(network: Any) -> tuple[Packed, Tensor]:
    """Return texts of unequal length, and the states that the padded network gives them."""
    longest = network.config.max_position_embeddings // 2
    lengths = np.minimum(_LENGTHS, longest)
    mask = np.arange(lengths.max()) < lengths[:, None]
    vocabulary = network.get_input_embeddings().num_embeddings
    padding = network.config.pad_token_id or 0
    ids = np.arange(mask.size, dtype=np.int64).reshape(mask.shape) * 7 % vocabulary
    ids[~mask] = padding
    given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}
    states = network(**{name: tensor.to(network.device) for name, tensor in given.items()}).last_hidden_state
    wanted = states[torch.from_numpy(mask).to(network.device)]
    return Packed.of(ids[mask], lengths, network.device), wanted


def _difference(found: Tensor, wanted: Tensor, lengths: list[int]) -> float:
    """Return how far the states of any text are off, in parts of their length; infinite where one is no number."""
    off = (found.float() - wanted.float()).norm(dim=1) / wanted.float().norm(dim=1)
    worst = max(float(text.mean()) for text in off.cpu().split(lengths))
    return float("inf") if off.isnan().any() else worst
