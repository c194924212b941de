"""`python first_release.py FILE`: jobs in every state, as the first release wrote them, for `first_release.json`.

It is run with a checkout of that release as its PYTHONPATH, never with today's code: what is kept has been written by
the program of that day. Texts and vectors are those of the fault suite, so that anybody can tell what must come out.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import sys
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 8
FILLING = "ein tauber müller mahlt mehl und murmelt "


def text_of(tag: str, position: int, length: int = 2_000) -> str:
    text = f"{tag} {position} kanarienvogel"
    return text + " " + (FILLING * (length // len(FILLING) + 1))[: length - len(text) - 1]


def vectors_of(texts: list[str]) -> Any:
    digests = b"".join([blake2b(text.encode(), digest_size=2 * WIDTH).digest() for text in texts])
    odd = np.frombuffer(digests, dtype="<i2").astype(np.int64).reshape(-1, WIDTH) * 2 + 1
    return (odd / np.sqrt((odd * odd).sum(axis=1, keepdims=True))).astype(np.float32)


class FirstRelease:
    """A producer and a worker of the first release over one database.

    Args:
        url: Of a database that it migrates.
    """

    def __init__(self, url: str) -> None:
        from producer.client import Client
        from storage.contract.ids import new_id
        from storage.contract.models import ModelCard
        from storage.database import Database
        from storage.migrations import migrate
        from storage.stores import Stores

        database = Database(url)
        migrate(database)
        self.stores = Stores.on(database)
        self.card = ModelCard("acme/hash-8", "rev-1", "float32", WIDTH, 512, 2, "mean", True)
        self.worker = new_id()
        self.stores.workers.register(self.card, self.worker, "millhouse", 4711, "cpu")
        # Nobody listens there: chunks stay as they are.
        self.client = Client(database_url=url, redis_url="unix:///nowhere/redis.sock", model=self.card.name)

    def submit(self, tag: str, count: int, ids: bool = False, **given: Any) -> str:
        texts = [text_of(tag, position) for position in range(count)]
        names = [f"{tag}-{position}" for position in range(count)] if ids else None
        return str(self.client.submit(texts, ids=names, **given).id)

    def send(self) -> None:
        """Mark as many chunks as sent as may be, as if their messages were under way."""
        from storage.contract.models import Priority

        self.stores.leases.heartbeat(self.worker)  # on a busy machine it may have been silent for too long
        assert self.stores.chunks.dispatch(self.card.id, Priority.BULK)

    def begin(self, tag: str) -> str:
        """Begin a submission that nobody brings to its end."""
        from storage.chunks import NewChunk
        from storage.contract.ids import new_id

        job_id = str(new_id())
        self.stores.jobs.create(job_id, self.card.name, None, self.card.id, {})
        texts = [text_of(tag, position).encode() for position in range(3)]
        self.stores.chunks.append(job_id, [NewChunk(0, 0, texts, 1_500, None, {})])
        return job_id

    def claim(self, job_id: str, number: int) -> Any:
        from storage.contract.messages import Pointer

        (claim,) = self.stores.leases.claim(Pointer(job_id, number), self.worker, self.card.id, 0)
        return claim

    def finish(self, job_id: str, number: int, failing: tuple[int, ...] = ()) -> None:
        from storage.outcomes import ItemError
        from storage.results import ChunkResult

        claim = self.claim(job_id, number)
        found = self.stores.leases.input(claim)
        errors = dict(found.settled)
        errors |= {place: ItemError("encoder_failed", "The encoder failed on this text.") for place in failing}
        matrix = vectors_of(found.texts)
        if found.kept is not None:
            raise NotImplementedError("nothing was retried in the first release's database")
        matrix[list(errors)] = np.nan
        lengths = np.fromiter((len(text) // 4 + 2 for text in found.texts), dtype=np.int32, count=len(found.texts))
        tokens = np.minimum(lengths, np.int32(512))
        dtype = claim.options.get("store_dtype", "float32")
        done, _ = self.stores.leases.commit([(claim, ChunkResult(matrix, dtype, tokens, lengths, errors))])
        assert done, "the first release could not commit"

    def chunks(self, job_id: str) -> int:
        with self.stores.database.read() as connection:
            query = "SELECT count(*) FROM chunks WHERE job_id = ?"
            return int(connection.exec_driver_sql(query, (job_id,)).scalar_one())


def write_jobs(release: FirstRelease) -> dict[str, str]:
    """Write a job in each state; return their ids by tag."""
    from storage.contract.errors import ModelRefused

    jobs = {}
    jobs["whole"] = release.submit("whole", 50, ids=True, idempotency_key="monday")
    for number in range(release.chunks(jobs["whole"])):
        release.finish(jobs["whole"], number)
    jobs["half"] = release.submit("half", 20, store_dtype="float16")
    for number in range(release.chunks(jobs["half"])):
        release.finish(jobs["half"], number)
    jobs["flawed"] = release.submit("flawed", 40, ids=True)
    for number in range(release.chunks(jobs["flawed"])):
        release.finish(jobs["flawed"], number, failing=(1, 3) if number == 0 else ())
    jobs["stopped"] = release.submit("stopped", 60)
    release.finish(jobs["stopped"], 0)
    release.stores.jobs.cancel(jobs["stopped"])
    jobs["refused"] = release.submit("refused", 20)
    release.stores.jobs.fail(jobs["refused"], ModelRefused("This model is not served.", "Take another."))
    # In hand: a chunk is done, one is leased by a worker that nobody will see again, one is sent, the rest waits.
    jobs["moving"] = release.submit("moving", 90, ids=True)
    release.finish(jobs["moving"], 0)
    release.claim(jobs["moving"], 1)
    jobs["waiting"] = release.submit("waiting", 40)
    jobs["urgent"] = release.submit("urgent", 5, priority="urgent")
    jobs["kept"] = release.submit("kept", 30, ids=True)
    release.send()
    jobs["abandoned"] = release.begin("abandoned")
    return jobs


def as_json(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def dumped(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Return every row of a SQLite file by table; bytes as base64 in an object of their own."""
    with sqlite3.connect(file) as connection:
        connection.row_factory = sqlite3.Row
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: [
                {
                    name: {"base64": base64.b64encode(row[name]).decode()}
                    if isinstance(row[name], bytes)
                    else row[name]
                    for name in row.keys()  # noqa: SIM118 - of a row itself one gets its values
                }
                for row in connection.execute(f"SELECT * FROM {table}")
            ]
            for table in sorted(tables)
        }


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "first.sqlite3"
        jobs = write_jobs(FirstRelease(f"sqlite:///{file}"))
        Path(sys.argv[1]).write_text(json.dumps({"jobs": jobs, "rows": dumped(file)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
