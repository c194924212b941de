"""What the driver says of the GPUs that a worker takes, by NVML; nothing without a driver or `nvidia-ml-py`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from storage.figures import Figure

_OF_GPU = ("gpu",)

#: How long a question waits for one that was put before, in seconds.
_PATIENCE = 2.0


class Gpus:
    """Asks the driver anew at each question: it may be loaded later than this process was started, or fall ill.

    Args:
        names: UUIDs of those that are told of: others' GPUs on this machine are none of ours. Where there are parts of
            GPUs among them (MIG), which do not say whose they are, all GPUs of the machine are told of.
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = frozenset(names)
        self._nvml: Any = None
        self._asking = threading.Lock()

    def figures(self) -> Iterable[Figure]:
        """Return memory, load, temperature and power of each GPU; what a GPU does not tell is left out.

        A driver that hangs has one thread wait for it, and no other for longer than two seconds.
        """
        if not self._names:
            return []
        if not self._asking.acquire(timeout=_PATIENCE):
            return []
        try:
            return self._ask()
        finally:
            self._asking.release()

    def _ask(self) -> Iterable[Figure]:
        nvml = self._open()
        if nvml is None:
            return []
        try:
            handles = self._ours(nvml, _handles(nvml, nvml.nvmlDeviceGetCount()))
        except nvml.NVMLError:
            # A driver that was unloaded: asked from the beginning next time.
            self._nvml = None
            return []
        return [*_read(nvml, handles), _about(nvml, handles)]

    def _ours(self, nvml: Any, handles: dict[str, Any]) -> dict[str, Any]:
        if any(name.startswith("MIG-") for name in self._names):
            return handles
        return {index: handle for index, handle in handles.items() if _uuid(nvml, handle) in self._names}

    def _open(self) -> Any:
        if self._nvml is not None:
            return self._nvml
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return None
        self._nvml = pynvml
        return pynvml


def _handles(nvml: Any, count: int) -> dict[str, Any]:
    handles: dict[str, Any] = {}
    for index in range(count):
        try:
            handles[str(index)] = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError:
            # One that fell off the bus: the others are still to be watched.
            continue
    return handles


def _uuid(nvml: Any, handle: Any) -> str | None:
    try:
        return str(nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError:
        return None


def _read(nvml: Any, handles: dict[str, Any]) -> Iterator[Figure]:
    readings: dict[str, tuple[str, Callable[[Any], float]]] = {
        "memory_used_bytes": ("Memory in use, by all processes", lambda h: nvml.nvmlDeviceGetMemoryInfo(h).used),
        "memory_bytes": ("Memory that there is", lambda h: nvml.nvmlDeviceGetMemoryInfo(h).total),
        "utilization_ratio": (
            "Share of the last moments in which it computed",
            lambda h: nvml.nvmlDeviceGetUtilizationRates(h).gpu / 100,
        ),
        "temperature_celsius": (
            "Temperature of the chip",
            lambda h: nvml.nvmlDeviceGetTemperature(h, nvml.NVML_TEMPERATURE_GPU),
        ),
        "power_watts": ("Power drawn", lambda h: nvml.nvmlDeviceGetPowerUsage(h) / 1000),
    }
    for name, (meaning, read) in readings.items():
        values: dict[tuple[str, ...], float] = {}
        for index, handle in handles.items():
            try:
                values[(index,)] = float(read(handle))
            except nvml.NVMLError:
                continue
        if values:
            yield Figure(f"embedmill_gpu_{name}", meaning, "gauge", _OF_GPU, values)


def _about(nvml: Any, handles: dict[str, Any]) -> Figure:
    values: dict[tuple[str, ...], float] = {}
    for index, handle in handles.items():
        try:
            values[(index, nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetUUID(handle))] = 1.0
        except nvml.NVMLError:
            continue
    return Figure("embedmill_gpu_info", "What it is; always 1", "gauge", ("gpu", "name", "uuid"), values)
