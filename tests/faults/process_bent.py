"""`python -m tests.faults.process_bent SLOT DEVICE ID`: the worker process, less patient or with a fault built in.

`FAULTS_STALL` and `FAULTS_PATIENCE` are the seconds of the stall watch and of the starvation watch; with
`FAULTS_VISIBILITY` Redis keeps copies of messages under way and sends them again after so many seconds. `FAULTS_SICK`
names a slot whose device fails on every call, `FAULTS_NO_MODEL` says why the model cannot be loaded. A file `deaf.PID`
beside the failpoints keeps a process from taking messages, a file `encode.hog` has the next one eat all the memory.
`FAULTS_CLOCK` names a file into which each batch writes what time this process believes it is.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kombu.transport.virtual import QoS

from storage.contract.errors import ModelBroken
from storage.contract.failpoints import VARIABLE
from storage.contract.options import JobOptions
from tests.faults.encoder import Embedded, EngineFailed, HashEncoder
from worker import process
from worker.process import Process, main
from worker.starvation import Starvation
from worker.watches import stall

#: Where a process that eats memory ends itself should the kernel let it, lest the machine suffer, in bytes.
_MOST_MEMORY = 2**30
_BITE = 2**24


class BentEncoder(HashEncoder):
    """An encoder on a device that is sick, or on a machine that runs out of memory.

    Args:
        sick: Whether every call fails as a lost device does.
    """

    def __init__(self, sick: bool) -> None:
        super().__init__()
        self._sick = sick
        self._hog = Path(os.environ[VARIABLE]) / "encode.hog"
        self._clock = os.environ.get("FAULTS_CLOCK")

    def embed(self, texts: Sequence[str], options: JobOptions, urgent: bool = False) -> Embedded:
        """Embed texts, unless something is wrong."""
        if self._sick:
            raise EngineFailed("this device fails on everything")
        if self._hog.exists():
            self._eat()
        if self._clock:
            Path(self._clock).write_text(f"{time.time()}\n")
        return super().embed(texts, options, urgent)

    def _eat(self) -> None:
        try:
            self._hog.rename(self._hog.with_name(f"encode.hog.fired.{os.getpid()}"))
        except FileNotFoundError:
            return
        eaten: list[bytes] = []
        try:
            while len(eaten) * _BITE < _MOST_MEMORY:
                eaten.append(b"x" * _BITE)
        except MemoryError:
            # One large piece that is not to be had, as a batch asks for, leaves the other threads theirs.
            eaten.clear()
            raise
        os.kill(os.getpid(), signal.SIGKILL)


class BentProcess(Process):
    """A worker process that a test has prepared."""

    def _load(self) -> Any:
        if why := os.environ.get("FAULTS_NO_MODEL"):
            raise ModelBroken(why)
        if seconds := os.environ.get("FAULTS_VISIBILITY"):
            from worker.app import app

            late = {"ack_emulation": True, "visibility_timeout": float(seconds)}
            often = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
            app.conf.broker_transport_options = {**app.conf.broker_transport_options, **late, **often}
        return BentEncoder(self._slot == os.environ.get("FAULTS_SICK"))


def bend() -> None:
    """Shorten what is shorter in a test, and have a file make this process deaf."""
    if seconds := os.environ.get("FAULTS_STALL"):
        vars(process)["stall"] = partial(stall, patience=float(seconds))
    if seconds := os.environ.get("FAULTS_PATIENCE"):
        vars(process)["Starvation"] = partial(Starvation, patience=float(seconds))
    deaf, can_consume = Path(os.environ[VARIABLE]) / f"deaf.{os.getpid()}", QoS.can_consume
    # What a failed acknowledgement was seen to do: every place for a message counts as taken.
    QoS.can_consume = lambda self: not deaf.exists() and can_consume(self)  # type: ignore[method-assign]


if __name__ == "__main__":
    bend()
    main(BentProcess)
