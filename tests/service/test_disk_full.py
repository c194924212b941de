"""The database's disk is full: every way in answers 507 in its own form, leaves nothing, and works again with room."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from producer.api.settings import ApiSettings
from storage.database import Database
from storage.migrations import migrate
from tests.faults.smalldisk import SmallDisk, small_disk
from tests.servers import running_postgres, short_folder
from tests.service.serving import Served, serving
from tests.storage.builders import CARD, serve_for_long

#: Texts that cannot be compressed: about 3 MB of them.
TEXTS = [base64.b64encode(os.urandom(22_500)).decode() for _ in range(100)]
LINES = "\n".join(map(json.dumps, TEXTS)).encode()
NDJSON = {"Content-Type": "application/x-ndjson"}
BATCH = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": "wheat"}}).encode()

#: One way in: sends the same each time it is called.
Send = Callable[[httpx.Client], httpx.Response]


@dataclass
class Small:
    """A service whose database lies on a small disk, and what was there before that was full."""

    served: Served
    disk: SmallDisk
    kind: str
    parted: str
    file: str

    def fill(self) -> None:
        """Leave no room at all, not even in what SQLite's log would use again."""
        if self.kind == "sqlite":
            with sqlite3.connect(self.disk.path / "db.sqlite3", timeout=60) as connection:
                assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        self.disk.fill()

    def ways(self) -> dict[str, Send]:
        """Every way in that needs room for more than a row."""
        return {
            "JSON": lambda http: http.post("/v1/jobs", json={"texts": TEXTS}, headers={"Idempotency-Key": "json"}),
            "NDJSON": lambda http: http.post("/v1/jobs", content=LINES, headers=NDJSON | {"Idempotency-Key": "lines"}),
            "a part": lambda http: http.put(f"{self.parted}/parts/0", content=LINES, headers=NDJSON),
            "OpenAI's files": lambda http: http.post(
                "/v1/files", files={"file": ("grains.jsonl", os.urandom(3_000_000))}, data={"purpose": "batch"}
            ),
            "OpenAI's embeddings": lambda http: http.post("/v1/embeddings", json={"input": TEXTS}),
            "TEI's embed": lambda http: http.post("/embed", json={"inputs": TEXTS}),
        }

    def batch(self, http: httpx.Client) -> httpx.Response:
        """Make a batch of the file that was there before."""
        asked = {"input_file_id": self.file, "endpoint": "/v1/embeddings", "completion_window": "24h"}
        return http.post("/v1/batches", json=asked)


@pytest.fixture(params=["sqlite", "postgresql"])
def small(request: pytest.FixtureRequest) -> Iterator[Small]:
    """A service over a database of its own on a small disk."""
    with ExitStack() as stack:
        folder: Path = stack.enter_context(short_folder())
        disk = stack.enter_context(small_disk(24 if request.param == "sqlite" else 80))
        if request.param == "sqlite":
            url = f"sqlite:///{disk.path}/db.sqlite3"
        else:
            server = stack.enter_context(running_postgres())
            url = server.url(server.create())
            server.stop()
            # The log lies elsewhere: what is full is the disk of the tables.
            disk.take(server.folder / "data" / "base")
            server.start()
        database = Database(url)
        migrate(database)
        database.close()
        settings = ApiSettings.load(data_dir=folder, database_url=url, model=CARD.name, call_timeout=0.5)
        served = stack.enter_context(serving(settings))
        with served.http() as http:
            parted = http.post("/v1/jobs", json={"parts": True}).headers["location"]
            file = http.post("/v1/files", files={"file": ("a.jsonl", BATCH)}, data={"purpose": "batch"}).json()["id"]
        yield Small(served, disk, request.param, parted, file)


@pytest.mark.timeout(180)
def test_every_way_in_answers_507_and_works_again_with_room(small: Small) -> None:
    stores = small.served.service.stores
    with small.served.http() as http:
        # Given a service that is ready, and a disk that is then full
        serve_for_long(stores)
        assert http.get("/readyz").status_code == 200
        small.fill()
        # When each way in is tried
        for name, send in small.ways().items():
            answer = send(http)
            # Then it says 507 and why, in the form of its dialect, and when to come again
            assert answer.status_code == 507, (name, answer.text)
            told = answer.json()
            reason = told["error"] if "error_type" in told else told["error"]["message"]
            assert "disk is full" in reason and "Make room" in reason, name
            assert int(answer.headers["retry-after"]) > 0
            code = {"error_type": "Unhealthy"} if name == "TEI's embed" else {"code": "storage_full"}
            assert code.items() <= (told if name == "TEI's embed" else told["error"]).items(), name
        # And a batch of a few bytes is refused as well, where nothing that is kept has room for them
        batch = small.batch(http)
        assert batch.status_code == 507 or small.kind == "postgresql", batch.text
        # And it is told by who asks for health
        ready = http.get("/readyz")
        assert ready.status_code == 503 and "disk is full" in ready.json()["storage"]
        assert (http.get("/healthz").status_code, http.get("/health").status_code) == (200, 507)
        # And nobody sees anything that was begun
        assert http.get("/v1/jobs").json()["data"] == []
        assert [one["id"] for one in http.get("/v1/files").json()["data"]] == [small.file]
        assert http.get(f"{small.parted}/parts").json()["next"] == 0
        # When there is room again, then the same requests are good, by the same process
        small.disk.relieve()
        ways = small.ways()
        jobs = [ways[name](http) for name in ("JSON", "NDJSON")]
        assert [answer.status_code for answer in jobs] == [202, 202]
        assert [ways[name](http).json()["id"] for name in ("JSON", "NDJSON")] == [one.json()["id"] for one in jobs]
        assert ways["a part"](http).json() == {"part": 0, "items": len(TEXTS), "first": 0, "next": 1}
        assert http.post(f"{small.parted}/seal", json={"parts": 1}).status_code == 202
        assert ways["OpenAI's files"](http).status_code == 200
        # A call gets as far as its worker, who does not answer
        assert ways["OpenAI's embeddings"](http).status_code == 504
        assert batch.status_code == 200 or small.batch(http).status_code == 200
        assert http.get("/readyz").json()["storage"] == "ready" and http.get("/health").status_code == 200
        # And what a refused one has left is gone with the reconciler's next round
        small.served.service.batch_work.stop()
        stores.purges.mark(0)
        for job_id in stores.purges.marked():
            stores.purges.purge(job_id)
        assert {job.state for job in map(stores.jobs.get, stores.jobs.list_ids(100))} == {"queued"}
        kept = 3 * len(TEXTS)
        assert sum(job.total for job in map(stores.jobs.get, stores.jobs.list_ids(100))) == kept
