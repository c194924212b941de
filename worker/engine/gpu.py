"""What a GPU is called, and which half precisions it multiplies faster than float32."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

#: The compute capability from which on bfloat16 is multiplied (Ampere); before, it is emulated.
_MULTIPLIES_BFLOAT16 = (8, 0)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a part of one.

    Args:
        device: What torch calls it.
        name: What its driver calls it.
        capability: Its compute capability, as NVIDIA counts it.
    """

    device: str
    name: str
    capability: tuple[int, int]

    @property
    def cores(self) -> int:
        """How many batches are computed at a time."""
        return 1

    @property
    def halves(self) -> tuple[str, ...]:
        """The half precisions that are worth a trial; the first is taken where there can be none."""
        return ("float16",) if self.capability < _MULTIPLIES_BFLOAT16 else ("bfloat16", "float16")

    @property
    def usual_dtype(self) -> str:
        """What is computed in where nothing was measured."""
        return self.halves[0]

    @property
    def identity(self) -> str:
        """What measurements on it depend on."""
        return f"{self.name}, compute capability {'.'.join(map(str, self.capability))}"

    def busy(self) -> float:
        """Return seconds on a clock for trials: all of them, since nobody else computes on it."""
        return time.perf_counter()


def this_gpu(device: str) -> Gpu:
    """Return a GPU of this machine.

    Args:
        device: `cuda` or `cuda:n`.
    """
    told = torch.cuda.get_device_properties(device)
    return Gpu(device, told.name, (told.major, told.minor))
