"""`python -m tests.faults.supervisor_bent`: the supervisor over worker processes that a test has prepared.

`FAULTS_SILENCE` is how long a process may show no sign of life, in seconds; `FAULTS_PROGRAM` names another module that
they run.
"""

from __future__ import annotations

import os

from tests.faults import supervisor
from worker import child
from worker.devices import Slot
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor


class BentSupervisor(Supervisor):
    """Runs `tests.faults.process_bent` or what the environment names, whatever program it is given."""

    def __init__(self, settings: WorkerSettings, slots: list[Slot], program: str = "") -> None:
        super().__init__(settings, slots, os.environ.get("FAULTS_PROGRAM", "tests.faults.process_bent"))


if __name__ == "__main__":
    child.SILENCE = float(os.environ.get("FAULTS_SILENCE", child.SILENCE))
    vars(supervisor)["Supervisor"] = BentSupervisor
    supervisor.main()
