"""Starts the process that measures, pinned to a device and in the environment of a worker process; imports no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from worker.devices import Slot
from worker.settings import WorkerSettings
from worker.supervisor import worker_environment

#: Exit codes of the process, as those of every command: what was asked for is refused, or something it needs is sick.
REFUSED, SERVER_FAILED = 2, 4


class NotMeasured(Exception):
    """Raised when the process that measures ended without a report; it has said why on stderr.

    Args:
        code: Its exit code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run(settings: WorkerSettings, slot: Slot, seconds: float, texts: Path | None) -> dict[str, Any]:
    """Measure the settings' model and return the report.

    Args:
        settings: Model, number type, token budget.
        slot: Where.
        seconds: How long to measure, about, once the model is loaded.
        texts: A file with one text a line; None: made ones.

    Raises:
        NotMeasured: When there is no report.
    """
    command = [sys.executable, "-P", "-m", "worker.bench", slot.torch_device, str(seconds)]
    command += ["--texts", str(texts)] if texts is not None else []
    environment = os.environ | worker_environment(settings, slot)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise NotMeasured(done.returncode if done.returncode > 0 else SERVER_FAILED)
    report: dict[str, Any] = json.loads(done.stdout)
    return report
