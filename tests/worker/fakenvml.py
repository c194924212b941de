"""A stand-in for NVML: two GPUs whose readings change, a driver that can go away. It is no proof of a real one."""

from __future__ import annotations

from types import SimpleNamespace


class NVMLError(Exception):
    """What every call raises that cannot be answered."""


NVML_TEMPERATURE_GPU = 0


class FakeNvml:
    """Behaves as the module `pynvml` does, in what is used of it.

    Args:
        names: Of the GPUs.
    """

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = NVML_TEMPERATURE_GPU

    def __init__(self, *names: str) -> None:
        self.names = names
        self.used = [1_000 * (i + 1) for i in range(len(names))]
        self.load = [50 for _ in names]
        self.there = True
        self.begun = False
        self.without_power = False
        #: Numbers of GPUs that fell off the bus.
        self.lost: set[int] = set()

    def nvmlInit(self) -> None:
        if not self.there:
            raise NVMLError("driver not loaded")
        self.begun = True

    def _check(self) -> None:
        if not self.begun or not self.there:
            self.begun = False
            raise NVMLError("uninitialized")

    def nvmlDeviceGetCount(self) -> int:
        self._check()
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self._check()
        if index in self.lost:
            raise NVMLError("GPU is lost")
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        self._check()
        return SimpleNamespace(used=self.used[handle], total=80_000)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        self._check()
        return SimpleNamespace(gpu=self.load[handle], memory=1)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        self._check()
        return 41 + handle

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        self._check()
        if self.without_power:
            raise NVMLError("not supported")
        return 250_000

    def nvmlDeviceGetName(self, handle: int) -> str:
        return self.names[handle]

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}"
