"""The memory of a process, looked at while something is done."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import psutil

from benchmarks.machine import cpu_seconds


@dataclass
class Memory:
    """The memory of a process, and its processor time, while something is done.

    Args:
        pid: The process.
        every: Pause between two looks, in seconds.
        looks: What was seen, in bytes.
        cpu_seconds: Processor time that it used meanwhile.
    """

    pid: int
    every: float = 0.5
    looks: list[int] = field(default_factory=list)
    cpu_seconds: float = 0.0

    def __enter__(self) -> Memory:
        self.cpu_seconds = -cpu_seconds(self.pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.cpu_seconds += cpu_seconds(self.pid)
        self.looks.append(psutil.Process(self.pid).memory_info().rss)

    def told(self) -> dict[str, int]:
        """Return the first look, the last and the most, in bytes."""
        return {"first": self.looks[0], "last": self.looks[-1], "most": max(self.looks)}

    def _look(self) -> None:
        process = psutil.Process(self.pid)
        while True:
            self.looks.append(process.memory_info().rss)
            if self._over.wait(self.every):
                return
