"""What the kernel tells of the processor and of our share of it; imports no torch."""

from __future__ import annotations

import math
import os
import platform
from contextlib import suppress
from pathlib import Path

#: Flags of instructions that multiply bfloat16 numbers and add them up: Intel and AMD, Intel's matrix unit, Arm.
BFLOAT16_PRODUCTS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})

CPUINFO = Path("/proc/cpuinfo")

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def name_and_flags(cpuinfo: Path = CPUINFO) -> tuple[str, frozenset[str]]:
    """Return the processor's name and the names of its instruction sets.

    Args:
        cpuinfo: What the kernel tells of it; where there is none, it has no known flags.
    """
    told: dict[str, str] = {}
    with suppress(OSError):
        for line in cpuinfo.read_text(errors="replace").splitlines():
            field, _, value = line.partition(":")
            told.setdefault(field.strip(), value.strip())
    arm = " ".join(told.get(f"CPU {part}", "") for part in ("implementer", "part", "variant")).strip()
    name = told.get("model name") or arm or platform.processor() or platform.machine()
    return name, frozenset((told.get("flags") or told.get("Features") or "").split())


def allowed_cores(quota: Path = QUOTA) -> int:
    """Return how many cores the kernel gives this process, hyperthreads counted.

    Args:
        quota: What a container may use, as cgroups tell: microseconds of processor time, in how many.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # there is none everywhere, or it says `max`
        time, period = map(int, quota.read_text().split())
        allowed = min(allowed, math.ceil(time / period))
    return max(1, allowed)
