"""Finds the devices of this machine without torch, and says how a process is pinned to one."""

from __future__ import annotations

import itertools
import logging
import os
import re
import subprocess
from dataclasses import dataclass

from storage.contract.errors import InvalidOption

logger = logging.getLogger(__name__)

#: The variable that names what CUDA may use; children are pinned by it too.
_VISIBLE = "CUDA_VISIBLE_DEVICES"

#: Longest wait for the driver's answer, in seconds; it takes some where it has to be started first.
_PATIENCE = 20.0


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
    """One GPU, or a part of one (MIG), as the driver names it."""

    index: int
    uuid: str


CPU = Slot("cpu", "cpu", {_VISIBLE: ""})


def find_gpus() -> list[Gpu]:
    """Return this machine's NVIDIA GPUs that `CUDA_VISIBLE_DEVICES` leaves us, in PCI order where it is not set.

    None without a driver, nor with one that fails, which is told.
    """
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True).stdout
    except FileNotFoundError:
        return []
    except (OSError, subprocess.SubprocessError) as error:
        # Else a machine of GPUs would serve on its CPU, and nobody would know why.
        logger.warning("NVIDIA's driver does not tell of its GPUs (nvidia-smi: %s): none is used", _why(error))
        return []
    gpus, named = parse_gpus(listed), os.environ.get(_VISIBLE)
    if named is None:
        return gpus
    found = visible(gpus, named)
    logger.info("of %d GPUs here %s=%s leaves us %d", len(gpus), _VISIBLE, named, len(found))
    return found


def visible(gpus: list[Gpu], named: str) -> list[Gpu]:
    """Return the GPUs that a list names, up to the first that is not there, as CUDA does, or that comes again.

    Args:
        gpus: What this machine has.
        named: Indices as the driver counts, UUIDs or their beginnings, or parts of GPUs (`MIG-...`), which get the
            numbers from 0 on that no GPU of the list has.
    """
    found: list[Gpu | str] = []
    for name in map(str.strip, named.split(",")):
        meant = name if name.startswith("MIG-") else next((gpu for gpu in gpus if _is_meant(gpu, name)), None)
        if meant is None or meant in found:
            break
        found.append(meant)
    taken = {gpu.index for gpu in found if isinstance(gpu, Gpu)}
    free = (number for number in itertools.count() if number not in taken)
    return [gpu if isinstance(gpu, Gpu) else Gpu(next(free), gpu) for gpu in found]


def parse_gpus(listed: str) -> list[Gpu]:
    """Return the GPUs in the driver's comma-separated list of index and UUID."""
    rows = (line.partition(",") for line in listed.splitlines())
    return [Gpu(int(index), uuid.strip()) for index, _, uuid in rows if index.strip().isdecimal()]


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


def _is_meant(gpu: Gpu, name: str) -> bool:
    return name == str(gpu.index) or (name.startswith("GPU-") and gpu.uuid.startswith(name))


def _why(error: OSError | subprocess.SubprocessError) -> str:
    match error:
        case subprocess.CalledProcessError():
            told = f"{error.stdout}{error.stderr}".strip().splitlines()
            return told[0] if told else f"exit code {error.returncode}"
        case subprocess.TimeoutExpired():
            return f"no answer within {error.timeout:.0f} s"
        case OSError():
            return error.strerror or type(error).__name__
    return type(error).__name__


def _gpu_slot(gpu: Gpu) -> Slot:
    # By UUID: an index means something else to a process that sees fewer GPUs, or in another order.
    pinned = {_VISIBLE: gpu.uuid, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return Slot(f"cuda:{gpu.index}", "cuda", pinned)
