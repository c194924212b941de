"""What the engine needs of an encoder: `encoder.py` computes with torch, `openvino/encoder.py` with OpenVINO."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from worker.engine.batching import Packing
from worker.engine.packed import Packed


class EncoderLike(Protocol):
    """Token ids to token states, and pooled vectors through the dense modules after them; used by several threads."""

    @property
    def device(self) -> torch.device:
        """Where it wants its ids and leaves its states."""

    @property
    def precision(self) -> str:
        """The class whose vectors may be mixed in one job: `float32`, `half` or `int8`."""

    @property
    def vocabulary(self) -> int:
        """How many ids there are: an id that is not below this has no embedding."""

    @property
    def packing(self) -> Packing:
        """How batches are best laid out; `PADDED` where there is no `forward_flat`."""

    def forward_flat(self, packed: Packed, layer: int) -> Tensor:
        """Return the token states of a batch that comes without padding.

        Args:
            packed: The batch, on the device.
            layer: -1 the last layer, 0 the embedding layer's output, n the n-th layer's.

        Returns:
            Shape (tokens, components), on the device, of any float type.
        """

    def forward(self, ids: Tensor, mask: Tensor | None, layer: int) -> Tensor:
        """Return the token states of a padded batch.

        Args:
            ids: int64 on the device, shape (texts, tokens).
            mask: Booleans on the device, same shape, true where there is a token; None where there is one everywhere.
            layer: -1 the last layer, 0 the embedding layer's output, n the n-th layer's.

        Returns:
            Shape (texts, tokens, components), on the device, of any float type.
        """

    def project(self, pooled: Tensor) -> Tensor:
        """Send pooled vectors through the dense modules of the checkpoint.

        Args:
            pooled: float32 on the device, shape (texts, components).

        Returns:
            float32, shape (texts, width).
        """
