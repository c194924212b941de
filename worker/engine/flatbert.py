"""BERT's network over texts laid end to end: no padding is computed, and what can be fused is.

Computes what transformers' own class computes, from its weights; `unpadded.py` compares it with that class, which stays
in use where the two differ or the network is of another build. Against the class it saves the padding, the mask, two of
three matrix products for query, key and value and, on a CPU, the additions of the residuals.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.engine.attention import attend
from worker.engine.buckets import blocks_are_fast
from worker.engine.packed import Packed
from worker.engine.packedlinear import PackedLinear, is_gelu, operators_work
from worker.engine.plainlinear import PlainLinear
from worker.engine.steadiness import Blocks

_Linear = PlainLinear | PackedLinear

#: Classes of transformers that are built of BERT's layers and embeddings, letter by letter.
_SAME_BUILD = ("BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel", "ElectraModel")


#: Packed products have a multiple of so many rows: the library prepares itself for each new number of rows, which takes
#: half a millisecond and 0.7 MB each.
_ROWS = 16


class FlatBert(nn.Module):
    """The network.

    Args:
        network: What transformers or `bertfiles.py` loaded; of the build above.
        linear: What its linear layers become.
    """

    def __init__(self, network: Any, linear: type[_Linear] = PlainLinear) -> None:
        super().__init__()
        embeddings = network.embeddings
        self._words = embeddings.word_embeddings
        self._places = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        self._padding = embeddings.position_embeddings.padding_idx
        self._norm = _norm(embeddings.LayerNorm)
        self._rows = _ROWS if linear is PackedLinear else 1
        #: How many ids have an embedding.
        self.vocabulary = int(self._words.num_embeddings)
        #: Whether a text's states are known to be the same numbers in any company.
        self.is_steady = False
        self._layers = nn.ModuleList(
            _Layer(layer, network.config.num_attention_heads, linear) for layer in network.encoder.layer
        )

    def forward(self, packed: Packed, layer: int) -> Tensor:
        """Return the token states; see `Encoder.forward_flat`."""
        places = functional.embedding(packed.places(self._padding), self._places)
        states: Tensor = self._norm(self._words(packed.ids).add_(places))
        tokens = len(states)
        if missing := -tokens % self._rows:
            states = functional.pad(states, (0, 0, 0, missing))
        for block in itertools.islice(self._layers, None if layer < 0 else layer):
            states = block(states, packed)
        return states[:tokens]

    def steady(self) -> None:
        """Have a text's states be the same numbers alone and in company, where packed products can do that.

        One layer whose rows depend on their number is enough for all to differ: then nothing is done for any.
        """
        first: Any = self._layers[0]
        found = first.find_blocks()
        if None in found.values():
            return
        for layer, (name, blocks) in itertools.product(self._layers, found.items()):
            getattr(layer, name).blocks = blocks
        self.is_steady = True


class _Layer(nn.Module):
    """One layer: attention within each text, then the two linear layers, each with its residual and norm."""

    def __init__(self, layer: Any, heads: int, linear: type[_Linear]) -> None:
        super().__init__()
        attention = layer.attention.self
        self._heads = heads
        self._ask = linear(_joined(attention.query, attention.key, attention.value))
        self._answer, self._answer_norm = linear(layer.attention.output.dense), _norm(layer.attention.output.LayerNorm)
        self._widen = linear(layer.intermediate.dense, gelu=True)
        self._narrow, self._narrow_norm = linear(layer.output.dense), _norm(layer.output.LayerNorm)

    def forward(self, states: Tensor, packed: Packed) -> Tensor:
        """Return the next states, shape (tokens of all texts or more, components)."""
        query, key, value = self._ask(states).view(len(states), 3, self._heads, -1).unbind(1)
        context = attend(query, key, value, packed).flatten(1)
        states = self._answer_norm(self._answer.plus(context, states))
        narrowed: Tensor = self._narrow_norm(self._narrow.plus(self._widen(states), states))
        return narrowed

    def find_blocks(self) -> dict[str, Blocks | None]:
        """Return how each of the layer's packed products must take its rows; see `PackedLinear.find_blocks`."""
        adding = {"_ask": False, "_answer": True, "_widen": False, "_narrow": True}
        return {name: getattr(self, name).find_blocks(adds) for name, adds in adding.items()}


def flatten(network: Any, dtype: torch.dtype) -> FlatBert | None:
    """Return the flat network of what transformers loaded, or None where it is of another build.

    Args:
        network: On its device, in `dtype`, and never to be trained.
        dtype: What it computes in.
    """
    if type(network).__name__ not in _SAME_BUILD or not _is_plain(network):
        return None
    return flat_network(network, dtype)


def flat_network(network: Any, dtype: torch.dtype) -> FlatBert:
    """Return the flat network of one that is known to be of BERT's build.

    Args:
        network: As for `flatten`, or what `bertfiles.py` read.
        dtype: What it computes in.
    """
    with torch.inference_mode():
        if network.embeddings.word_embeddings.weight.is_cuda or not operators_work(dtype):
            return FlatBert(network)
        flat = FlatBert(network, PackedLinear)
        # Elsewhere rows were never seen to depend on their number, and trying takes a part of a second.
        if dtype == torch.bfloat16 and blocks_are_fast():
            with _one_thread():
                flat.steady()
        return flat


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread until the end of the block, as batches are computed later."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _is_plain(network: Any) -> bool:
    config = network.config
    absolute = getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
    decoder = getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False)
    projected = hasattr(network, "embeddings_project")
    acts = [getattr(layer.intermediate, "intermediate_act_fn", None) for layer in network.encoder.layer]
    return absolute and not decoder and not projected and all(map(is_gelu, acts))


def _norm(norm: nn.LayerNorm) -> nn.LayerNorm:
    """Return a norm that is computed as fast as can be: on a CPU, factors in float32 save that they are widened."""
    return norm if norm.weight.is_cuda else copy.deepcopy(norm).float()


def _joined(*linears: nn.Linear) -> nn.Linear:
    """Return the layer that computes several layers at once, their outputs side by side."""
    joined = nn.Linear(linears[0].in_features, sum(linear.out_features for linear in linears), device="meta")
    joined.weight = nn.Parameter(torch.cat([linear.weight.detach() for linear in linears]), requires_grad=False)
    joined.bias = nn.Parameter(torch.cat([linear.bias.detach() for linear in linears]), requires_grad=False)
    return joined
