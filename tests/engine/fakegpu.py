"""A GPU that is none: tensors know their device, shape and number type, and have no numbers.

It shows what a CPU cannot: tensors of two devices in one operator, number types that do not go together, and whoever
needs a number of the device and so waits for it. It is no proof that a real one computes right.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode

#: With its number: where torch has no CUDA, nobody tells which one is the current.
DEVICE = torch.device("cuda:0")

#: What brings numbers to the host, and so waits for them.
_WAITING = {Tensor.cpu, Tensor.numpy, Tensor.tolist, Tensor.item, Tensor.__bool__, Tensor.__float__, Tensor.__int__}


class Waits(Exception):
    """Raised where the host would have to wait for the device."""


class _WithoutDriver(TorchFunctionMode):
    """Stands in for what torch asks a driver even of tensors without numbers."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first = args[0] if args else None
        if function is Tensor.pin_memory:
            return first
        if isinstance(first, FakeTensor) and first.is_cuda:
            if function in _WAITING:
                raise Waits(function.__name__)
            if function is Tensor.__getitem__:
                return _indexed(first, args[1])
            if function is Tensor.contiguous:
                return first if first.is_contiguous() else first.clone(memory_format=torch.contiguous_format)
            if function is Tensor.__invert__:
                return torch.logical_not(first)
        return function(*args, **(kwargs or {}))


def _indexed(tensor: Tensor, index: Any) -> Tensor:
    """Do by operators what Python's brackets do."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in (part for part in parts if not isinstance(part, Tensor)):
        place = next(i for i, part in enumerate(parts) if part is Ellipsis)
        missing = tensor.dim() - sum(part is not None for part in parts) + 1
        parts[place : place + 1] = [slice(None)] * missing
    axis = 0
    picks: dict[int, Tensor] = {}
    for part in parts:
        if isinstance(part, int):
            tensor = torch.ops.aten.select.int(tensor, axis, part)
            continue
        if isinstance(part, slice):
            tensor = torch.ops.aten.slice.Tensor(tensor, axis, part.start, part.stop, part.step or 1)
        elif part is None:
            tensor = tensor.unsqueeze(axis)
        else:
            picks[axis] = part
        axis += 1
    return torch.ops.aten.index.Tensor(tensor, [picks.get(i) for i in range(axis)]) if picks else tensor


@contextmanager
def fake_gpu() -> Iterator[None]:
    """Have tensors made in the block, on `DEVICE` or not, be such ones."""
    with FakeTensorMode(), _WithoutDriver(), torch.no_grad():
        yield


def brought(network: nn.Module) -> nn.Module:
    """Bring a network to the GPU; its numbers are lost.

    Args:
        network: Loaded on the CPU.
    """
    for module in network.modules():
        for kept in (module._parameters, module._buffers):
            for name, tensor in kept.items():
                if tensor is not None:
                    moved = torch.empty(tensor.shape, dtype=tensor.dtype, device=DEVICE)
                    kept[name] = nn.Parameter(moved, requires_grad=False) if kept is module._parameters else moved
    # It is there already; and torch cannot move what has no numbers.
    network.to = lambda *given: network  # type: ignore[method-assign]
    return network
