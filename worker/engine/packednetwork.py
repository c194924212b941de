"""A network of transformers' own, over texts laid end to end: whatever its layers do, attention keeps texts apart.

Positions alone would not: without an attention function like the one below, each text attends to all the others of its
batch. Networks that are packed come there with padded texts too.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from worker.engine.attention import attend
from worker.engine.packed import Packed

#: What transformers knows this attention by.
NAME = "embedmill"


class PackedNetwork:
    """The network; it can still be given padded texts, with a mask.

    Args:
        network: What transformers loaded.

    Raises:
        ValueError: When its attention cannot be replaced.
    """

    def __init__(self, network: Any) -> None:
        if not network._supports_attention_backend:
            raise ValueError(f"{type(network).__name__} has an attention of its own")
        network.set_attn_implementation(NAME)
        self._network = network
        table = getattr(getattr(network, "embeddings", None), "position_embeddings", None)
        self._padding = getattr(table, "padding_idx", None)

    def __call__(self, packed: Packed, layer: int) -> Tensor:
        """Return the token states; see `Encoder.forward_flat`."""
        ids, places = packed.ids.long()[None], packed.places(self._padding).long()[None]
        return token_states(self._network, layer, input_ids=ids, position_ids=places, packed=packed)[0]


def token_states(network: Any, layer: int, **inputs: Any) -> Tensor:
    """Return a layer's output.

    Args:
        network: What transformers loaded.
        layer: -1 the last layer, 0 the embedding layer's output, n the n-th layer's.
        inputs: What it is given.
    """
    if layer == -1:
        states: Tensor = network(**inputs).last_hidden_state
    else:
        states = network(**inputs, output_hidden_states=True).hidden_states[layer]
    return states


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
    if (shared := q.shape[1] // k.shape[1]) > 1:  # several heads of queries ask the same keys (EuroBERT)
        k, v = (part.repeat_interleave(shared, dim=1) for part in (k, v))
    return attend(q, k, v, packed, sliding_window, scaling)[None], None


def _mask_for_transformers(attention_mask: Tensor | None = None, **rest: Any) -> Tensor | None:
    """Return no mask where texts lie end to end: what is not packed comes with a mask of its padding, always."""
    if attention_mask is not None and attention_mask.device.type == "cuda":
        # To find out whether there is any padding, transformers would wait for all that the GPU still has to do.
        rest["allow_is_bidirectional_skip"] = False
    return None if attention_mask is None else sdpa_mask(attention_mask=attention_mask, **rest)


AttentionInterface.register(NAME, _attend_for_transformers)
AttentionMaskInterface.register(NAME, _mask_for_transformers)
