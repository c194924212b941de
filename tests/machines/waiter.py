"""`python -m tests.machines.waiter JOB`: waits for a job's end through the real client, and prints its states."""

from __future__ import annotations

import os
import sys

from embedmill import Client
from worker.parent import die_with_parent


def main() -> None:
    """Wait; a service that is being rebooted is given five minutes."""
    die_with_parent()
    with Client(os.environ["EMBEDMILL_URL"], retry_for=300.0) as client:
        job = client.job(sys.argv[1])
        print(job.status().state, flush=True)
        print(job.wait(timeout=300).state, flush=True)


if __name__ == "__main__":
    main()
