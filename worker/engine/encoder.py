"""The loaded network: token ids to token states, and pooled vectors through the dense modules after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from storage.contract.errors import InvalidOption, ModelBroken
from worker.engine.batching import Packing
from worker.engine.checkpoint import Checkpoint
from worker.engine.flatbert import FlatBert
from worker.engine.gpu import this_gpu
from worker.engine.layout import Dense
from worker.engine.packed import Packed
from worker.engine.packedlinear import pack_linears

if TYPE_CHECKING:
    from worker.engine.likeness import Likeness
    from worker.engine.unpadded import FlatNetwork

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_dtype(name: str, device: str) -> torch.dtype:
    """Return what to compute in.

    Args:
        name: `auto`, `float32`, `bfloat16` or `float16`; `auto` is what is usual where nothing was measured: float32 on
            a CPU, bfloat16 on a GPU, and float16 on one that has no instructions for bfloat16.
        device: `cpu`, `cuda` or `cuda:n`.

    Raises:
        InvalidOption: When the name is none of these.
    """
    if name == "auto":
        name = this_gpu(device).usual_dtype if device.startswith("cuda") else "float32"
    if name not in _DTYPES:
        raise InvalidOption(f"dtype must be one of auto, {', '.join(_DTYPES)}, not {name!r}.")
    return _DTYPES[name]


class Encoder:
    """A checkpoint's network on one device; used by several threads at once on a CPU.

    Args:
        checkpoint: What to load; its files only, never the hub.
        device: `cpu`, `cuda` or `cuda:n`.
        dtype: As for `resolve_dtype`.

    Raises:
        ModelBroken: When the files do not make a whole network.
        InvalidOption: When the dtype is unknown.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu", dtype: str = "auto") -> None:
        self.device = torch.device(device)
        self.dtype = resolve_dtype(dtype, device)
        if self.device.type == "cuda" and self.dtype is torch.float32:
            # Images of NVIDIA's have float32 products be of 19 bits, by a variable.
            torch.backends.cuda.matmul.allow_tf32 = False
        likeness = _likeness(checkpoint, self.dtype) if self.device.type == "cpu" else None
        known = None if likeness is None else likeness.known()
        self._flat: FlatNetwork | None = known
        #: transformers' own network, where it is needed beside or instead of the flat one.
        self._network: Any = None
        self._vocabulary = self._load(checkpoint, likeness) if known is None else known.vocabulary
        self._head = load_head(checkpoint).to(self.device)

    def _load(self, checkpoint: Checkpoint, likeness: Likeness | None) -> int:
        """Load transformers' own network, keep what is needed beside one that computes no padding; return its ids."""
        # Imported late, as it takes seconds and is not needed where a likeness is known.
        from worker.engine.transformersnetwork import load_network
        from worker.engine.unpadded import without_padding

        network = load_network(checkpoint.transformer, self.dtype).to(self.device)
        read = None if likeness is None else likeness.candidate(network)
        self._flat = without_padding(network, self.dtype, read)
        if likeness is not None and self._flat is not None and self._flat is read:
            likeness.note()
        if self.device.type != "cpu" or not isinstance(self._flat, FlatBert):  # which else has the weights now
            self._network = network
            if self.device.type == "cpu":
                pack_linears(network, self.dtype)
        return int(network.get_input_embeddings().num_embeddings)

    @property
    def precision(self) -> str:
        """The class whose vectors may be mixed in one job: `float32` or `half`."""
        return "float32" if self.dtype is torch.float32 else "half"

    @property
    def vocabulary(self) -> int:
        """How many ids there are: an id that is not below this has no embedding."""
        return self._vocabulary

    @property
    def packing(self) -> Packing:
        """How batches are best laid out; `PADDED` where there is no `forward_flat`."""
        if self._flat is None:
            return Packing.PADDED
        return Packing.SORTED if self.device.type == "cpu" else Packing.FREE

    def forward_flat(self, packed: Packed, layer: int) -> Tensor:
        """Return the token states of a batch without padding.

        Args:
            packed: The batch, on the device.
            layer: -1 the last layer, 0 the embedding layer's output, n the n-th layer's.

        Returns:
            Shape (tokens, components), on the device, in the encoder's own float type.
        """
        assert self._flat is not None
        return self._flat(packed, layer)

    def forward(self, ids: Tensor, mask: Tensor | None, layer: int) -> Tensor:
        """Return the token states of a padded batch.

        Args:
            ids: int64 on the device, shape (texts, tokens).
            mask: Booleans on the device, same shape, true where there is a token; None where there is one everywhere.
            layer: -1 the last layer, 0 the embedding layer's output, n the n-th layer's.

        Returns:
            Shape (texts, tokens, components), on the device, in the encoder's own float type.
        """
        if mask is None and self._flat is not None:
            mask = torch.ones_like(ids, dtype=torch.bool)  # as attention tells by it that the texts are no packed ones
        if self._network is None and mask is not None:
            return self._without_padding(ids, mask, layer)
        from worker.engine.packednetwork import token_states

        attention = None if mask is None else mask.long()
        return token_states(self._network, layer, input_ids=ids, attention_mask=attention)

    def _without_padding(self, ids: Tensor, mask: Tensor, layer: int) -> Tensor:
        packed = Packed.of(ids[mask].numpy(), mask.sum(1).numpy(), self.device)
        flat = Encoder.forward_flat(self, packed, layer)
        states = flat.new_zeros(*ids.shape, flat.shape[1])
        states[mask] = flat
        return states

    def project(self, pooled: Tensor) -> Tensor:
        """Send pooled vectors through what follows in the checkpoint; see `load_head`.

        Args:
            pooled: float32 on the device, shape (texts, components).

        Returns:
            float32, shape (texts, width).
        """
        projected: Tensor = self._head(pooled)
        return projected


def _likeness(checkpoint: Checkpoint, dtype: torch.dtype) -> Likeness:
    # Imported late: what it remembers in is not there where nothing but torch and transformers is.
    from worker.engine.likeness import Likeness

    return Likeness(checkpoint, dtype)


def load_head(checkpoint: Checkpoint) -> nn.Sequential:
    """Load what follows the pooling: the dense modules, one after another, and the cut that a model's files ask for.

    Args:
        checkpoint: What to load; where nothing follows, the head changes nothing.

    Raises:
        ModelBroken: When their weights cannot be loaded.
    """
    head = nn.Sequential(*map(_load_dense, checkpoint.dense))
    if checkpoint.truncate_dim is not None:
        head.append(_Cut(checkpoint.truncate_dim, checkpoint.normalize))
    return head.eval()


class _Cut(nn.Module):
    """Keeps the first components, as sentence-transformers does: after normalising, where the model normalises."""

    def __init__(self, width: int, normalize: bool) -> None:
        super().__init__()
        self._width = width
        self._normalize = normalize

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the first components of each vector."""
        return (functional.normalize(vectors, dim=1) if self._normalize else vectors)[:, : self._width]


def _load_dense(dense: Dense) -> nn.Sequential:
    linear = nn.Linear(dense.inputs, dense.outputs, bias=dense.bias)
    try:
        weights = load_file(dense.folder / "model.safetensors")
        linear.load_state_dict({name.removeprefix("linear."): tensor.float() for name, tensor in weights.items()})
    except Exception as error:
        raise ModelBroken(f"{dense.folder} cannot be loaded ({error}).", "Download or save the model again.") from error
    return nn.Sequential(linear, getattr(nn, dense.activation)())
