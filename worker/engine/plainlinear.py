"""Linear layers as torch computes them, behind the face of packed ones: on a GPU, or where a CPU has none."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class PlainLinear(nn.Module):
    """Computes what a linear layer computes, and perhaps the GELU after it.

    Args:
        linear: The layer; its weights are used where they are.
        gelu: Whether the exact GELU follows.
    """

    def __init__(self, linear: nn.Linear, gelu: bool = False) -> None:
        super().__init__()
        self._linear = linear
        self._gelu = gelu

    def forward(self, states: Tensor) -> Tensor:
        """Return the layer's output.

        Args:
            states: Shape (..., inputs).
        """
        output: Tensor = self._linear(states)
        return functional.gelu(output) if self._gelu else output

    def plus(self, states: Tensor, other: Tensor) -> Tensor:
        """Return the layer's output and another tensor, added.

        Args:
            states: Shape (..., inputs).
            other: Shape (..., outputs).
        """
        output: Tensor = self._linear(states)
        return output.add_(other)
