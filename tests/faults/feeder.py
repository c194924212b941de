"""`python -m tests.faults.feeder NAME ROOM`: submits one job after another, until a file named `enough` lies beside it.

What an earlier process of the name submitted with an idempotency key and could not finish is submitted again first.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from embedmill import Client
from storage.contract.errors import ServerError
from tests.faults.encoder import CARD
from tests.faults.ledger import Ledger, Line
from tests.faults.plain import PlainDatabase
from tests.faults.texts import id_of, texts_of
from worker.parent import die_with_parent

#: The file that ends it, after the job in hand.
ENOUGH = "enough"

#: Texts after which it takes a breath, and for how many seconds: a submission is to take a while.
_STRIDE, _BREATH = 200, 0.15

_OPEN = (
    "SELECT sum(c.size) FROM chunks c JOIN jobs j ON j.id = c.job_id"
    " WHERE j.state IN ('queued', 'running') AND c.state IN ('pending', 'dispatched', 'leased')"
)


class Feeder:
    """One producer that never ends.

    Args:
        name: Begins its tags; no two run under one name at a time.
        room: It waits while so many texts wait already.
        ledger: Where it notes what it does.
        database: Where it sees how many wait.
    """

    def __init__(self, name: str, room: int, ledger: Ledger, database: PlainDatabase) -> None:
        self._name = name
        self._room = room
        self._ledger = ledger
        self._db = database

    def run(self, client: Client) -> None:
        """Submit until there is enough."""
        mine = [line for line in self._ledger.intended().values() if line.tag.startswith(f"{self._name}-")]
        for line in mine:
            if line.key is not None and line.job is None:
                self._submit(client, line)
        for number in count(len(mine)):
            self._wait_for_room()
            if Path(ENOUGH).exists():
                return
            line = self._line(number)
            self._ledger.append(line)
            self._submit(client, line)

    def _line(self, number: int) -> Line:
        random = Random(f"{self._name}:{number}")
        tag = f"{self._name}-{number}"
        length, most = random.choice([(0, 3000), (300, 2000), (2000, 1000)])
        key = tag if random.random() < 0.5 else None
        return Line(tag, random.randint(200, most), length=length, ids=random.random() < 0.4, key=key)

    def _submit(self, client: Client, line: Line) -> None:
        """Submit a line; where storage is away, do so again with a key, and let it be without one."""
        while True:
            try:
                given: dict[str, Any] = {"model": CARD.name, "idempotency_key": line.key}
                if line.ids:
                    given["ids"] = (id_of(line.tag, position) for position in range(line.count))
                job = client.submit(self._slowly(line), **given)
                self._ledger.append(line.accepted(job.id))
                return
            except ServerError as error:
                print(f"{line.tag}: {error}", flush=True)
                if line.key is None:
                    return
                time.sleep(0.5)

    @staticmethod
    def _slowly(line: Line) -> Iterator[str]:
        for position, text in enumerate(texts_of(line.tag, 0, line.count, line.length)):
            if position % _STRIDE == 0:
                time.sleep(_BREATH)
            yield text

    def _wait_for_room(self) -> None:
        while not Path(ENOUGH).exists():
            try:
                if int(self._db.value(_OPEN) or 0) < self._room:
                    return
            except ConnectionError as error:
                print(f"{self._name}: {error}", flush=True)
            time.sleep(0.2)


def main() -> None:
    """Feed a mill; its folder is the working folder."""
    die_with_parent()
    database = PlainDatabase(os.environ["FAULTS_PLAIN_URL"])
    feeder = Feeder(sys.argv[1], int(sys.argv[2]), Ledger(Path(os.environ["FAULTS_LEDGER"])), database)
    with Client() as client:
        feeder.run(client)


if __name__ == "__main__":
    main()
