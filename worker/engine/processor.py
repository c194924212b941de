"""What this machine computes with: the processor, how many of its cores we may use, and what it can multiply."""

from __future__ import annotations

import hashlib
import math
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

#: Flags of instructions that multiply bfloat16 numbers and add them up: Intel and AMD, Intel's matrix unit, Arm.
_BFLOAT16_PRODUCTS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})

_CPUINFO = Path("/proc/cpuinfo")

_QUOTA = Path("/sys/fs/cgroup/cpu.max")

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
        return bool(self.flags & _BFLOAT16_PRODUCTS)

    @property
    def identity(self) -> str:
        """Name, cores, and sixteen digits that stand for the flags: what measurements on it depend on."""
        digest = hashlib.blake2b(" ".join(sorted(self.flags)).encode(), digest_size=8).hexdigest()
        return f"{self.name}, {self.cores} cores, {digest}"


def this_processor(cpuinfo: Path = _CPUINFO) -> Processor:
    """Return the processor of this machine.

    Args:
        cpuinfo: What the kernel tells of it; where there is none, it has no known flags.
    """
    told: dict[str, str] = {}
    try:
        for line in cpuinfo.read_text(errors="replace").splitlines():
            field, _, value = line.partition(":")
            told.setdefault(field.strip(), value.strip())
    except OSError:
        pass
    arm = " ".join(told.get(f"CPU {part}", "") for part in ("implementer", "part", "variant")).strip()
    name = told.get("model name") or arm or platform.processor() or platform.machine()
    return Processor(name, frozenset((told.get("flags") or told.get("Features") or "").split()), available_cores())


def available_cores(quota: Path = _QUOTA) -> int:
    """Return how many cores this process may use; hyperthreads of one core gain nothing here.

    Args:
        quota: What a container may use, as cgroups tell: microseconds of processor time, in how many.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # there is none everywhere, or it says `max`
        time, period = map(int, quota.read_text().split())
        allowed = min(allowed, math.ceil(time / period))
    return max(1, min(allowed, _PHYSICAL_CORES))
