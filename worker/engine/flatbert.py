"""BERT's network on a CPU, over texts laid end to end: no padding is computed, and what can be fused is.

Computes what transformers' own class computes, from its weights; at loading it is compared with that class, which stays
in use where the two differ or the network is of another build. Against the class with packed linear layers it saves the
padding, the mask, two of three matrix products for query, key and value, and the additions of the residuals.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import GELUActivation

from worker.engine.packedlinear import TOLERANCES, PackedLinear, operators_work

#: Classes of transformers that are built of BERT's layers and embeddings, letter by letter.
_SAME_BUILD = ("BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel", "ElectraModel")


class FlatBert(nn.Module):
    """The network.

    Args:
        network: What transformers loaded; of the build above.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        embeddings = network.embeddings
        self._words = embeddings.word_embeddings
        self._places = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        padding = embeddings.position_embeddings.padding_idx
        self._first_place = 0 if padding is None else padding + 1
        self._norm = embeddings.LayerNorm
        self._layers = nn.ModuleList(
            _Layer(layer, network.config.num_attention_heads) for layer in network.encoder.layer
        )

    def forward(self, ids: Tensor, mask: Tensor | None, layer: int) -> Tensor:
        """Return the token states of a batch; see `Encoder.forward`."""
        texts, tokens = ids.shape
        places = torch.arange(self._first_place, self._first_place + tokens)
        if mask is None:
            lengths, flat, where = [tokens] * texts, ids.reshape(-1), places.repeat(texts)
        else:
            lengths, flat, where = mask.sum(1).tolist(), ids[mask], places.expand(texts, tokens)[mask]
        states: Tensor = self._norm(self._words(flat) + functional.embedding(where, self._places))
        runs = _runs(lengths)
        for block in itertools.islice(self._layers, None if layer < 0 else layer):
            states = block(states, runs)
        if mask is None:
            return states.view(texts, tokens, -1)
        padded: Tensor = states.new_zeros(texts, tokens, states.shape[1])
        padded[mask] = states
        return padded


class _Layer(nn.Module):
    """One layer: attention within each text, then the two linear layers, each with its residual and norm."""

    def __init__(self, layer: Any, heads: int) -> None:
        super().__init__()
        attention = layer.attention.self
        self._heads = heads
        self._ask = PackedLinear(_joined(attention.query, attention.key, attention.value))
        self._answer, self._answer_norm = PackedLinear(layer.attention.output.dense), layer.attention.output.LayerNorm
        self._widen = PackedLinear(layer.intermediate.dense, gelu=True)
        self._narrow, self._narrow_norm = PackedLinear(layer.output.dense), layer.output.LayerNorm

    def forward(self, states: Tensor, runs: list[tuple[int, int, int]]) -> Tensor:
        """Return the next states, shape (tokens of all texts, components)."""
        states = self._answer_norm(self._answer.plus(self._attend(self._ask(states), runs), states))
        narrowed: Tensor = self._narrow_norm(self._narrow.plus(self._widen(states), states))
        return narrowed

    def _attend(self, asked: Tensor, runs: list[tuple[int, int, int]]) -> Tensor:
        width = asked.shape[1] // 3
        context = asked.new_empty(len(asked), width)
        for start, texts, tokens in runs:
            end = start + texts * tokens
            parts = asked[start:end].view(texts, tokens, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
            context[start:end].view(texts, tokens, self._heads, -1).copy_(mixed.transpose(1, 2))
        return context


def flatten(network: Any, dtype: torch.dtype) -> FlatBert | None:
    """Return the flat network of what transformers loaded, or None where that one must stay in use.

    Args:
        network: On a CPU, in `dtype`, and never to be trained.
        dtype: What it computes in.
    """
    if type(network).__name__ not in _SAME_BUILD or not operators_work(dtype) or not _is_plain(network):
        return None
    with torch.inference_mode():
        flat = FlatBert(network)
        vocabulary = network.get_input_embeddings().num_embeddings
        ids = torch.arange(5 * 9).reshape(5, 9) * 7 % vocabulary
        mask = torch.arange(9) < torch.tensor([9, 9, 7, 3, 1])[:, None]
        padding = network.embeddings.word_embeddings.padding_idx
        ids[(ids == padding) & mask] = vocabulary - 1 if padding != vocabulary - 1 else 0
        ids[~mask] = 0 if padding is None else padding
        wanted = network(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask]
        found = flat(ids, mask, -1)[mask]
    off = TOLERANCES[dtype]
    return flat if torch.allclose(found.float(), wanted.float(), rtol=off, atol=off) else None


def _is_plain(network: Any) -> bool:
    config = network.config
    absolute = getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
    decoder = getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False)
    projected = hasattr(network, "embeddings_project")
    acts = [getattr(layer.intermediate, "intermediate_act_fn", None) for layer in network.encoder.layer]
    return absolute and not decoder and not projected and all(isinstance(act, GELUActivation) for act in acts)


def _joined(*linears: nn.Linear) -> nn.Linear:
    """Return the layer that computes several layers at once, their outputs side by side."""
    joined = nn.Linear(linears[0].in_features, sum(linear.out_features for linear in linears))
    joined.weight = nn.Parameter(torch.cat([linear.weight.detach() for linear in linears]), requires_grad=False)
    joined.bias = nn.Parameter(torch.cat([linear.bias.detach() for linear in linears]), requires_grad=False)
    return joined


def _runs(lengths: list[int]) -> list[tuple[int, int, int]]:
    """Return neighbours of equal length as first token, number of texts and tokens of each."""
    runs, start = [], 0
    for tokens, texts in itertools.groupby(lengths):
        count = len(list(texts))
        runs.append((start, count, tokens))
        start += count * tokens
    return runs
