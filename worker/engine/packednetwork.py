"""A network of transformers' own, over texts laid end to end: whatever its layers do, attention keeps texts apart."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from worker.engine.attention import NAME
from worker.engine.packed import Packed


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
        table = getattr(network.embeddings, "position_embeddings", None)
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
