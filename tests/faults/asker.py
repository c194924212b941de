"""`python -m tests.faults.asker LINE [again]`: a client as a user has it: submits, polls until the end, fetches.

Prints a line of JSON for each job: seconds of submitting, and of each call of `Job.status()`. With `again` it goes on
with the same number of texts until a file named `enough` lies in its working folder.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

from embedmill import Client
from storage.contract.errors import ServerError
from tests.faults.encoder import CARD
from tests.faults.feeder import ENOUGH
from tests.faults.ledger import Ledger, Line
from tests.faults.texts import texts_of
from worker.parent import die_with_parent

#: Seconds between two calls of `Job.status()`.
_POLL = 0.25

#: Jobs whose vectors are fetched too; larger ones would measure NumPy.
_FETCHED = 10_000


def ask(client: Client, ledger: Ledger, line: Line) -> None:
    """Have one job done.

    Raises:
        ServerError: When submitting failed; later failures are ridden out, as a user's loop would.
    """
    ledger.append(line)
    start = time.monotonic()
    job = client.submit(
        texts_of(line.tag, 0, line.count, line.length), model=CARD.name, idempotency_key=line.key, **line.options
    )
    submitted, delays, final = time.monotonic() - start, [], False
    print(json.dumps({"job": job.id, "tag": line.tag, "submitting": submitted}), flush=True)
    while not final:
        time.sleep(_POLL)
        asked = time.monotonic()
        try:
            final = job.status().is_final
            delays.append(round(time.monotonic() - asked, 5))
        except ServerError as error:
            print(f"{line.tag}: {error}", file=sys.stderr, flush=True)
    total = time.monotonic() - start
    if line.count <= _FETCHED:
        _fetch(client, job.id)
    # Hashing ten million texts takes long: not while the clock runs, and not between two looks.
    ledger.append(line.accepted(job.id))
    print(json.dumps({"job": job.id, "submitting": submitted, "total": total, "delays": delays}), flush=True)


def _fetch(client: Client, job_id: str) -> None:
    while True:
        try:
            client.job(job_id).vectors()
            return
        except ServerError as error:
            print(f"fetching: {error}", file=sys.stderr, flush=True)
            time.sleep(0.5)


def main() -> None:
    """Ask once, or again and again."""
    die_with_parent()
    given = json.loads(sys.argv[1])
    first = Line(**{**given, "markers": {}})
    ledger = Ledger(Path(os.environ["FAULTS_LEDGER"]))
    with Client() as client:
        if "again" not in sys.argv[2:]:
            ask(client, ledger, first)
            return
        for number in count():
            if Path(ENOUGH).exists():
                return
            line = replace(first, tag=f"{first.tag}-{number}", key=f"{first.tag}-{number}")
            while True:
                try:
                    ask(client, ledger, line)
                    break
                except ServerError as error:
                    print(f"{line.tag}: {error}", file=sys.stderr, flush=True)
                    time.sleep(0.5)


if __name__ == "__main__":
    main()
