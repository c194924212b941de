"""`python -m tests.faults.producer LINE`: submits what a ledger's line in JSON says, through the real client.

The job's id goes to the ledger and to standard output, once submit has returned. `FAULTS_LEDGER` names the ledger.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from embedmill import Client
from tests.faults.encoder import CARD
from tests.faults.ledger import Ledger, Line
from tests.faults.texts import id_of, texts_of
from worker.parent import die_with_parent


def submit(client: Client, ledger: Ledger, line: Line) -> str:
    """Submit, and note it in the ledger before and after; return the job's id."""
    ledger.append(line)
    job = client.submit(
        texts_of(line.tag, 0, line.count, line.length, line.markers),
        ids=(id_of(line.tag, position) for position in range(line.count)) if line.ids else None,
        model=CARD.name,
        idempotency_key=line.key,
        **line.options,
    )
    ledger.append(line.accepted(job.id))
    return job.id


def main() -> None:
    """Submit one job."""
    die_with_parent()
    given = json.loads(sys.argv[1])
    line = Line(**{**given, "markers": {int(k): v for k, v in given["markers"].items()}})
    with Client() as client:
        print(submit(client, Ledger(Path(os.environ["FAULTS_LEDGER"])), line), flush=True)


if __name__ == "__main__":
    main()
