"""What this machine computes with: the processor, how many of its cores we may use, and what it can multiply."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from worker.engine.cpu import BFLOAT16_PRODUCTS, CPUINFO, QUOTA, allowed_cores, name_and_flags

#: As many as torch would compute on, which leaves hyperthreads out; asked before it is told to use one.
_PHYSICAL_CORES = torch.get_num_threads()


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor.

    Args:
        name: As the kernel names it.
        flags: Names of its instruction sets.
        cores: How many this process may use.
    """

    name: str
    flags: frozenset[str]
    cores: int

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether it has instructions of its own for products of bfloat16."""
        return bool(self.flags & BFLOAT16_PRODUCTS)

    @property
    def device(self) -> str:
        """What torch calls it."""
        return "cpu"

    @property
    def halves(self) -> tuple[str, ...]:
        """The half precisions that are worth a trial."""
        return ("bfloat16",) if self.multiplies_bfloat16 else ()

    @property
    def usual_dtype(self) -> str:
        """What is computed in where nothing was measured."""
        return "float32"

    @property
    def identity(self) -> str:
        """Name, cores, and sixteen digits that stand for the flags: what measurements on it depend on."""
        digest = hashlib.blake2b(" ".join(sorted(self.flags)).encode(), digest_size=8).hexdigest()
        return f"{self.name}, {self.cores} cores, {digest}"

    def busy(self) -> float:
        """Return seconds on a clock for trials: those it was busy with us, as others slow us down now and then."""
        return time.process_time()


def this_processor(cpuinfo: Path = CPUINFO) -> Processor:
    """Return the processor of this machine.

    Args:
        cpuinfo: What the kernel tells of it; where there is none, it has no known flags.
    """
    return Processor(*name_and_flags(cpuinfo), available_cores())


def available_cores(quota: Path = QUOTA) -> int:
    """Return how many cores this process may use; hyperthreads of one core gain nothing here.

    Args:
        quota: What a container may use, as cgroups tell: microseconds of processor time, in how many.
    """
    return min(allowed_cores(quota), _PHYSICAL_CORES)
