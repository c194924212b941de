"""Linear layers with weights laid out once for this CPU, which torch's own lay out anew, or not at all, on every call.

The operators are those that torch.compile emits for a CPU. They are no public interface: where they are missing, do not
know a number type, or answer otherwise than the layer they would replace, the network stays as it is. On two cores of a
Zen 4, all-MiniLM-L6-v2 in float32 gained about a fifth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.engine.steadiness import Blocks, find_blocks

#: Rows that the weights' layout is chosen for: about one batch.
_ROWS = 1024

#: How far a packed layer may be from the one it replaces, relative and absolute, by number type.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


class PackedLinear(nn.Module):
    """Computes what a linear layer computes, and perhaps the GELU after it, from packed weights.

    Args:
        linear: The layer to replace.
        gelu: Whether the exact GELU follows.
    """

    def __init__(self, linear: nn.Linear, gelu: bool = False) -> None:
        super().__init__()
        operators: Any = torch.ops.mkldnn
        self._operator = operators._linear_pointwise
        self._weight = operators._reorder_linear_weight(linear.weight.detach(), _ROWS)
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._after: tuple[Any, ...] = ("gelu", [], "none") if gelu else ("none", [], "")
        self._shape = linear.in_features, linear.out_features
        #: How rows are taken, of states of two dimensions.
        self.blocks = Blocks()

    def forward(self, states: Tensor) -> Tensor:
        """Return the layer's output.

        Args:
            states: Shape (..., inputs).
        """
        return self._taken(lambda some: self._operator(some, self._weight, self._bias, *self._after), states)

    def plus(self, states: Tensor, other: Tensor) -> Tensor:
        """Return the layer's output and another tensor, added where the output is still in the cache.

        Args:
            states: Shape (..., inputs).
            other: Shape (..., outputs).
        """
        operator = self._operator.binary
        return self._taken(lambda some, more: operator(some, more, self._weight, self._bias, "add"), states, other)

    def find_blocks(self, adding: bool) -> Blocks | None:
        """Return how rows must be taken to be the same numbers in any company, or None where no way was found.

        Args:
            adding: Whether another tensor is added; see `plus`.
        """
        inputs, outputs = self._shape
        other = torch.linspace(-1, 1, outputs).to(self._weight.dtype)
        product = (lambda rows: self.plus(rows, other.repeat(len(rows), 1))) if adding else self
        return find_blocks(product, inputs, self._weight.dtype)

    def _taken(self, product: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        count = len(tensors[0])
        rows = self.blocks.of(count)
        if rows == count:
            return product(*tensors)
        return torch.cat(
            [product(*parts) for parts in zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True)]
        )


def pack_linears(network: nn.Module, dtype: torch.dtype) -> bool:
    """Replace a network's linear layers by packed ones.

    Args:
        network: On a CPU, in `dtype`, and never to be trained.
        dtype: What it computes in.

    Returns:
        Whether they were replaced; false where this machine cannot or need not.
    """
    if not operators_work(dtype):
        return False
    for module in list(network.modules()):
        fused = is_gelu(getattr(module, "intermediate_act_fn", None))
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child, gelu=fused and name == "dense"))
        if fused and isinstance(getattr(module, "dense", None), PackedLinear):
            module.intermediate_act_fn = nn.Identity()
    return True


def is_gelu(activation: object) -> bool:
    """Tell whether an activation is the exact GELU, as transformers' networks call it, without importing them."""
    return type(activation).__name__ == "GELUActivation"


def operators_work(dtype: torch.dtype) -> bool:
    """Try the operators on a small layer; a type without a tolerance is served by none."""
    if dtype not in TOLERANCES:
        return False
    layer = nn.Linear(64, 128).to(dtype)
    states = torch.linspace(-2, 2, 3 * 5 * 64).reshape(3, 5, 64).to(dtype)
    try:
        with torch.inference_mode():
            plain = layer(states)
            found = PackedLinear(layer)(states), PackedLinear(layer, gelu=True)(states)
            added = PackedLinear(layer).plus(states, plain)
    except (RuntimeError, AttributeError, NotImplementedError, TypeError):
        return False
    off = TOLERANCES[dtype]
    wanted = plain, functional.gelu(plain), plain + plain
    return all(torch.allclose(a, b, rtol=off, atol=off) for a, b in zip((*found, added), wanted, strict=True))
