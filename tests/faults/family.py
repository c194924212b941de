"""The processes of one mill: supervisors with their children, and producers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.faults import processes
from tests.stack import children

#: Longest wait for the end of a process, in seconds.
_END = 60.0


class Family:
    """Starts, kills, freezes and finds processes.

    Args:
        folder: Where they run and log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.supervisors: list[subprocess.Popen[bytes]] = []
        self.producers: list[subprocess.Popen[bytes]] = []
        #: Variables of every process.
        self.environment: dict[str, str] = {}
        self._logs = 0

    def start_supervisor(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start one more supervisor with its children; variables in capitals are set on top."""
        process = self.start("tests.faults.supervisor", [], **environment)
        self.supervisors.append(process)
        return process

    def start(
        self, module: str, arguments: list[str], *, prefix: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a Python module as a process group of its own; what it prints goes to a log."""
        self._logs += 1
        log = self.folder / f"{self._logs:03d}-{module.rpartition('.')[2]}.log"
        return processes.start(module, arguments, self.environment | environment, log, self.folder, prefix)

    def stop_supervisor(self, process: subprocess.Popen[bytes] | None = None) -> None:
        """Stop a supervisor in order; default: the first."""
        process = process or self.supervisors[0]
        process.send_signal(signal.SIGTERM)
        process.wait(_END)
        self.supervisors.remove(process)

    def kill_supervisor(self, process: subprocess.Popen[bytes] | None = None) -> None:
        """Kill a supervisor and all its children at once, as the loss of a machine does; default: the first."""
        process = process or self.supervisors[0]
        family = [process.pid, *children(process.pid)]
        for pid in family:
            self.kill(pid)
        process.wait(_END)
        self.supervisors.remove(process)
        processes.wait_until_ended(family, _END)

    def restart_supervisor(self, process: subprocess.Popen[bytes] | None = None) -> None:
        """Kill a supervisor with its children, and start a new one."""
        self.kill_supervisor(process)
        self.start_supervisor()

    def revive_supervisors(self) -> int:
        """Start a new supervisor for each that has ended by itself; return how many."""
        ended = [process for process in self.supervisors if process.poll() is not None]
        for process in ended:
            self.supervisors.remove(process)
            self.start_supervisor()
        return len(ended)

    def worker_pids(self) -> list[int]:
        """Return the process ids of all worker processes, loading or ready."""
        return self._children("tests.faults.process")

    def reconciler_pids(self) -> list[int]:
        """Return the process ids of all reconcilers."""
        return self._children("worker.reconciler")

    def _children(self, module: str) -> list[int]:
        found = [pid for process in self.supervisors for pid in children(process.pid)]
        return [pid for pid in found if module in processes.command_of(pid)]

    @staticmethod
    def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, SIGKILL by default; nothing happens where the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def freeze(self, pid: int) -> None:
        """Stop a process as the pause of a machine does."""
        self.kill(pid, signal.SIGSTOP)

    def thaw(self, pid: int) -> None:
        """Let a stopped process go on."""
        self.kill(pid, signal.SIGCONT)
