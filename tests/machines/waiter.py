"""`python -m tests.machines.waiter JOB`: waits for a job's end through the real client, and prints its state."""

from __future__ import annotations

import sys

from embedmill import Client
from worker.parent import die_with_parent


def main() -> None:
    """Wait."""
    die_with_parent()
    with Client() as client:
        print(client.job(sys.argv[1]).wait(timeout=300).state, flush=True)


if __name__ == "__main__":
    main()
