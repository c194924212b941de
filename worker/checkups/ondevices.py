"""This machine's devices: what they are, whether we may use them, and whether the installed torch can."""

from __future__ import annotations

import csv
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from storage.checkups.check import Area, Outcome, not_checked, ok, warning, wrong
from storage.checkups.places import size
from storage.contract.errors import InvalidOption
from worker.devices import choose_slots, find_gpus
from worker.engine.cpu import BFLOAT16_PRODUCTS, allowed_cores, name_and_flags

_ASKED = ("index", "name", "memory.used", "memory.total", "utilization.gpu", "temperature.gpu", "driver_version")
_ECC = "ecc.errors.uncorrected.volatile.total"

#: NVIDIA's number among the makers of devices.
_NVIDIA = "0x10de"

#: A worker with a model of a usual size needs about so much, in bytes.
_LITTLE = 1 << 30


@dataclass(frozen=True, slots=True)
class Machine:
    """What is looked at.

    Args:
        wanted: The setting of devices.
        gpus: What the driver says of each GPU, by the names in `_ASKED`.
        pci: GPUs that are plugged in, whether or not a driver knows them.
        torch: The installed torch's version and the CUDA it was built for, or None where there is none.
    """

    wanted: str
    gpus: list[dict[str, str]]
    pci: int
    torch: tuple[str, str | None] | None


def area(wanted: str) -> Area[Machine]:
    """Return the checks of this machine's devices.

    Args:
        wanted: The setting of devices.
    """

    @contextmanager
    def opened() -> Iterator[tuple[Machine, Outcome]]:
        yield Machine(wanted, _gpus(), _plugged_in(), _torch()), _processor()

    found: Area[Machine] = Area("devices", "processor", opened)
    for name, look in CHECKS.items():
        found.check(name, look)
    return found


def _processor() -> Outcome:
    name, flags = name_and_flags()
    cores, there = allowed_cores(), os.cpu_count() or 1
    fast = sorted(flags & BFLOAT16_PRODUCTS)
    bfloat16 = f"multiplies bfloat16 ({', '.join(fast)})" if fast else "has no instructions for bfloat16"
    return ok(f"{name}: {cores} of {there} cores are ours; it {bfloat16}.")


def _memory(machine: Machine) -> Outcome:
    told = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text()))
    total, free = (1024 * int(told[name]) for name in ("MemTotal", "MemAvailable"))
    limit = _number(Path("/sys/fs/cgroup/memory.max"))
    if limit is not None and limit < total:
        used = _number(Path("/sys/fs/cgroup/memory.current")) or 0
        total, free = limit, min(free, max(0, limit - used))
    found = f"{size(free)} of {size(total)} are free."
    if free < _LITTLE:
        return warning(found, "A worker needs a few GB beside its model: end what else runs, or raise the limit.")
    return ok(found)


def _graphics(machine: Machine) -> Outcome:
    if not machine.gpus:
        if machine.pci:
            return wrong(
                f"{machine.pci} NVIDIA GPUs are plugged in, and the driver does not tell of them.",
                "Install NVIDIA's driver; in a container, give it the devices (docker: --gpus all).",
            )
        return ok("There is no NVIDIA GPU: the CPU computes.")
    told = [
        f"cuda:{gpu['index']}: {gpu['name']}, {_mib(gpu['memory.used'])} of {_mib(gpu['memory.total'])} used,"
        f" {gpu['utilization.gpu']} % busy, {gpu['temperature.gpu']} °C, driver {gpu['driver_version']}"
        for gpu in machine.gpus
    ]
    sick = [gpu["index"] for gpu in machine.gpus if gpu.get(_ECC, "").isdecimal() and int(gpu[_ECC])]
    if sick:
        return warning(
            f"Memory of GPU {', '.join(sick)} has had errors that could not be corrected.",
            "Stop its workers and reset it (nvidia-smi -r), or leave it out with --devices; if it recurs, replace it.",
            told,
        )
    return ok(f"{len(machine.gpus)} NVIDIA GPUs." if len(machine.gpus) > 1 else "One NVIDIA GPU.", told)


def _torch_fits(machine: Machine) -> Outcome:
    if machine.torch is None:
        return not_checked("torch is not installed here.", "To embed on this machine: pip install 'embedmill[worker]'.")
    version, cuda = machine.torch
    if machine.gpus and cuda is None:
        return wrong(
            f"torch {version} is built for CPUs alone, and there are GPUs.",
            "Install the build for CUDA that https://pytorch.org names for this driver.",
        )
    return ok(f"torch {version}, built for {f'CUDA {cuda}' if cuda else 'CPUs'}.")


def _chosen(machine: Machine) -> Outcome:
    try:
        slots = choose_slots(machine.wanted, find_gpus())
    except InvalidOption as error:
        return wrong(error.message, error.remedy or "Name devices that are there, with --devices or EMBEDMILL_DEVICES.")
    return ok(f"A worker here takes {', '.join(slot.name for slot in slots)} (devices: {machine.wanted}).")


def _gpus() -> list[dict[str, str]]:
    names = (*_ASKED, _ECC)
    command = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=8, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = csv.reader(listed.splitlines(), skipinitialspace=True)
    return [dict(zip(names, row, strict=False)) for row in rows if len(row) >= len(_ASKED)]


def _plugged_in() -> int:
    """Return how many graphics or compute devices of NVIDIA's the kernel sees."""
    found = 0
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            maker, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        found += maker == _NVIDIA and kind.startswith(("0x0300", "0x0302"))
    return found


def _torch() -> tuple[str, str | None] | None:
    """Return what the installed torch says of itself in its files: to import it takes seconds and opens devices."""
    try:
        found = distribution("torch")
    except PackageNotFoundError:
        return None
    written = Path(str(found.locate_file("torch/version.py")))
    cuda = re.search(r"^cuda\b[^=]*= *['\"]([^'\"]+)", written.read_text(), re.MULTILINE) if written.exists() else None
    return found.version, cuda[1] if cuda else None


def _mib(told: str) -> str:
    return size(int(told) << 20) if told.isdecimal() else told


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


#: What is looked at after the processor, in order.
CHECKS: dict[str, Callable[[Machine], Outcome]] = {
    "memory": _memory,
    "gpus": _graphics,
    "torch": _torch_fits,
    "chosen": _chosen,
}
