"""A worker process that notes when a text passes each failpoint; `benchmarks/passage.py` starts it.

`BENCHMARKS_NOTES` names the file it appends to: a line a failpoint, with its name and the system's monotonic clock.
"""

from __future__ import annotations

import os
import time

from storage.contract import failpoints
from worker.process import main

#: The environment variable that names the file.
VARIABLE = "BENCHMARKS_NOTES"


def note_to(path: str) -> None:
    """Note every failpoint this process passes from now on.

    Args:
        path: The file.
    """
    notes = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    failpoints.reach = lambda name: os.write(notes, f"{name} {time.monotonic():.6f}\n".encode()) and None


if __name__ == "__main__":
    note_to(os.environ[VARIABLE])
    main()
