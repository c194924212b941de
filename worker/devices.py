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

#: Longest wait for the driver's answer, in seconds: it takes some for each GPU where it has to be started first.
_PATIENCE = 120.0


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

    @property
    def gpu(self) -> str:
        """The UUID of its GPU, or of a part of one; empty where it has none."""
        return self.environment.get(_VISIBLE, "")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or a part of one (MIG), as the driver names it.

    Args:
        index: Its number.
        uuid: Its name, of which there is no other.
        parted: Whether it is used in parts alone, which have names of their own.
    """

    index: int
    uuid: str
    parted: bool = False


CPU = Slot("cpu", "cpu", {_VISIBLE: ""})


def find_gpus() -> list[Gpu]:
    """Return this machine's NVIDIA GPUs that `CUDA_VISIBLE_DEVICES` leaves us, in PCI order where it is not set.

    Of one that is in parts (MIG) these. None without a driver, nor with one that fails, which is told.
    """
    listed = _told("--query-gpu=index,uuid,mig.mode.current", "--format=csv,noheader")
    gpus, named = parse_gpus(listed), os.environ.get(_VISIBLE)
    if named is None:
        if not any(gpu.parted for gpu in gpus):
            return gpus
        return visible(gpus, ",".join(parse_parts(_told("-L"), gpus)))
    found = visible(gpus, named)
    logger.info("of %d GPUs here %s=%s leaves us %d", len(gpus), _VISIBLE, named, len(found))
    return found


def _told(*asked: str) -> str:
    """Return what the driver answers; where one GPU of several is ill it does so, and fails."""
    try:
        ran = subprocess.run(["nvidia-smi", *asked], capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except FileNotFoundError:
        return ""
    except (OSError, subprocess.SubprocessError) as error:
        # Else a machine of GPUs would serve on its CPU, and nobody would know why.
        logger.warning("NVIDIA's driver does not tell of its GPUs (nvidia-smi: %s): none is used", _why(error))
        return ""
    if ran.returncode != 0:
        words = f"{ran.stdout}{ran.stderr}".strip().splitlines() or [f"exit code {ran.returncode}"]
        logger.warning("NVIDIA's driver is not well (nvidia-smi: %s): what it does not tell of is not used", words[0])
    return ran.stdout


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
    """Return the GPUs in the driver's comma-separated list of index, UUID and perhaps whether they are in parts."""
    rows = ([field.strip() for field in line.split(",")] for line in listed.splitlines())
    found = (row for row in rows if len(row) > 1 and row[0].isdecimal() and row[1].startswith("GPU-"))
    return [Gpu(int(row[0]), row[1], row[2:3] == ["Enabled"]) for row in found]


def parse_parts(listed: str, gpus: list[Gpu]) -> list[str]:
    """Return the names of whole GPUs, and of the parts of those that are in parts, from what `nvidia-smi -L` prints.

    Args:
        listed: A line for each GPU, and below it one for each part.
        gpus: The GPUs.
    """
    parted = {gpu.uuid for gpu in gpus if gpu.parted}
    return [name for name in re.findall(r"\(UUID: ([^)\s]+)\)", listed) if name not in parted]


def choose_slots(wanted: str, gpus: list[Gpu]) -> list[Slot]:
    """Return the slots that a worker takes.

    Args:
        wanted: `auto`, `gpus`, `all`, `cpu`, or a list such as `cuda:0,cuda:1`.
        gpus: What this machine has.

    Raises:
        InvalidOption: When a device is not there, or named twice.
    """
    if wanted == "gpus":
        if not gpus:
            remedy = "`nvidia-smi` must list them here; in a container its runtime must be NVIDIA's."
            raise InvalidOption("GPUs are asked for, and NVIDIA's driver tells of none.", remedy)
        return [_gpu_slot(gpu) for gpu in gpus]
    if wanted == "auto":
        return [_gpu_slot(gpu) for gpu in gpus] or [CPU]
    if wanted == "all":
        return [*(_gpu_slot(gpu) for gpu in gpus), CPU] if gpus else [CPU]
    by_name = {"cpu": CPU} | {f"cuda:{gpu.index}": _gpu_slot(gpu) for gpu in gpus}
    names = [name.strip().lower() for name in wanted.split(",")]
    for name in names:
        if not re.fullmatch(r"cpu|cuda:\d+", name):
            raise InvalidOption(f"{name!r} is no device.", "Use auto, gpus, all, cpu, or a list: cuda:0,cuda:1.")
        if name not in by_name:
            raise InvalidOption(f"There is no {name} on this machine.", f"It has: {', '.join(by_name)}.")
    if len(set(names)) != len(names):
        raise InvalidOption("A device is named twice.", "One process serves one device.")
    return [by_name[name] for name in names]


def _is_meant(gpu: Gpu, name: str) -> bool:
    return name == str(gpu.index) or (name.startswith("GPU-") and gpu.uuid.startswith(name))


def _why(error: OSError | subprocess.SubprocessError) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {error.timeout:.0f} s"
    return getattr(error, "strerror", None) or type(error).__name__


def _gpu_slot(gpu: Gpu) -> Slot:
    # By UUID: an index means something else to a process that sees fewer GPUs, or in another order.
    pinned = {_VISIBLE: gpu.uuid, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return Slot(f"cuda:{gpu.index}", "cuda", pinned)
