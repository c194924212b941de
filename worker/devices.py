"""Finds the devices of this machine without torch, and says how a process is pinned to one."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from storage.contract.errors import InvalidOption


@dataclass(frozen=True, slots=True)
class Slot:
    """A share of a device that one worker process is pinned to.

    Args:
        name: As a person names it: `cpu` or `cuda:0`.
        torch_device: What torch calls it inside the pinned process.
        environment: Variables that pin a process to it; set before torch is imported.
    """

    name: str
    torch_device: str
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver names it."""

    index: int
    uuid: str


CPU = Slot("cpu", "cpu", {"CUDA_VISIBLE_DEVICES": ""})


def find_gpus() -> list[Gpu]:
    """Return this machine's NVIDIA GPUs in PCI order; none where there is no driver."""
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(listed)


def parse_gpus(listed: str) -> list[Gpu]:
    """Return the GPUs in the driver's comma-separated list of index and UUID."""
    rows = (line.split(",") for line in listed.splitlines() if "," in line)
    return [Gpu(int(index), uuid.strip()) for index, uuid in rows]


def choose_slots(wanted: str, gpus: list[Gpu]) -> list[Slot]:
    """Return the slots that a worker takes.

    Args:
        wanted: `auto`, `all`, `cpu`, or a list such as `cuda:0,cuda:1`.
        gpus: What this machine has.

    Raises:
        InvalidOption: When a device is not there, or named twice.
    """
    if wanted == "auto":
        return [_gpu_slot(gpu) for gpu in gpus] or [CPU]
    if wanted == "all":
        return [*(_gpu_slot(gpu) for gpu in gpus), CPU] if gpus else [CPU]
    by_name = {"cpu": CPU} | {f"cuda:{gpu.index}": _gpu_slot(gpu) for gpu in gpus}
    names = [name.strip().lower() for name in wanted.split(",")]
    for name in names:
        if not re.fullmatch(r"cpu|cuda:\d+", name):
            raise InvalidOption(f"{name!r} is no device.", "Use auto, all, cpu, or a list such as cuda:0,cuda:1.")
        if name not in by_name:
            raise InvalidOption(f"There is no {name} on this machine.", f"It has: {', '.join(by_name)}.")
    if len(set(names)) != len(names):
        raise InvalidOption("A device is named twice.", "One process serves one device.")
    return [by_name[name] for name in names]


def _gpu_slot(gpu: Gpu) -> Slot:
    # By UUID: an index means something else to a process that sees fewer GPUs, or in another order.
    pinned = {"CUDA_VISIBLE_DEVICES": gpu.uuid, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return Slot(f"cuda:{gpu.index}", "cuda", pinned)
