"""`python -m tests.faults.supervisor`: the real supervisor over worker processes with the deterministic encoder.

`FAULTS_SLOTS` is how many, `FAULTS_GOOD_LIFE` after how many seconds a death counts as the first one again: a test
that kills one process after another would otherwise wait for the back-off more than for anything else.
`FAULTS_SILENCE` is how long a process may show no sign of life, in seconds.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

from storage import logs
from worker import child
from worker.devices import Slot
from worker.health import HealthServer
from worker.parent import die_with_parent
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor


def main() -> None:
    """Supervise until SIGTERM."""
    die_with_parent()
    settings = WorkerSettings.load()
    logs.configure(settings.log_level, "supervisor", settings.log_format)
    child._GOOD_LIFE = float(os.environ.get("FAULTS_GOOD_LIFE", child._GOOD_LIFE))
    child.SILENCE = float(os.environ.get("FAULTS_SILENCE", child.SILENCE))
    slots = [Slot(f"cpu:{i}", "cpu", {}) for i in range(int(os.environ.get("FAULTS_SLOTS", "1")))]
    supervisor = Supervisor(settings, slots, program="tests.faults.process")

    def stop(signum: int, frame: FrameType | None) -> None:
        supervisor.stop()

    signal.signal(signal.SIGTERM, stop)
    health = None
    if settings.health_port is not None:
        health = HealthServer(settings.health_host, settings.health_port, supervisor)
        health.start()
    supervisor.run()
    if health is not None:
        health.close()


if __name__ == "__main__":
    main()
