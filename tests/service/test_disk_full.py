"""The database's disk is full: every way in answers 507 in its own form, leaves nothing, and works again with room."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.service.smallservice import BATCH, NDJSON, Small, incompressible, small_service
from tests.storage.builders import serve_for_long

#: About 3 MB.
TEXTS = incompressible()
LINES = "\n".join(map(json.dumps, TEXTS)).encode()

#: One way in: sends the same each time it is called.
Send = Callable[[httpx.Client], httpx.Response]


@dataclass(frozen=True)
class Ways:
    """A service on a small disk, and what was there before that was full."""

    small: Small
    parted: str
    file: str

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
def ways(request: pytest.FixtureRequest) -> Iterator[Ways]:
    """A service over a database of its own on a small disk."""
    with small_service(request.param) as small, small.http() as http:
        parted = http.post("/v1/jobs", json={"parts": True}).headers["location"]
        file = http.post("/v1/files", files={"file": ("a.jsonl", BATCH)}, data={"purpose": "batch"}).json()["id"]
        yield Ways(small, parted, file)


def full(http: httpx.Client) -> float:
    """Return how often a service has told that there was no room."""
    told = http.get("/metrics").text
    (line,) = [line for line in told.splitlines() if line.startswith("embedmill_service_storage_full_total ")]
    return float(line.split()[1])


def test_every_way_in_answers_507_and_works_again_with_room(ways: Ways) -> None:
    small = ways.small
    stores = small.served.service.stores
    with small.served.http() as http:
        # Given a service that is ready, and a disk that is then full
        serve_for_long(stores)
        assert http.get("/readyz").status_code == 200
        small.fill()
        assert full(http) == 0
        # When each way in is tried
        for name, send in ways.ways().items():
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
        batch = ways.batch(http)
        assert batch.status_code == 507 or small.kind == "postgresql", batch.text
        # And it is told by who asks for health
        ready = http.get("/readyz")
        assert ready.status_code == 503 and "disk is full" in ready.json()["storage"]
        assert (http.get("/healthz").status_code, http.get("/health").status_code) == (200, 507)
        # And to Prometheus, which the full database itself could not
        assert full(http) >= len(ways.ways())
        # And nobody sees anything that was begun
        assert http.get("/v1/jobs").json()["data"] == []
        assert [one["id"] for one in http.get("/v1/files").json()["data"]] == [ways.file]
        assert http.get(f"{ways.parted}/parts").json()["next"] == 0
        # When there is room again, then the same requests are good, by the same process
        small.disk.relieve()
        sends = ways.ways()
        jobs = [sends[name](http) for name in ("JSON", "NDJSON")]
        assert [answer.status_code for answer in jobs] == [202, 202]
        assert [sends[name](http).json()["id"] for name in ("JSON", "NDJSON")] == [one.json()["id"] for one in jobs]
        assert sends["a part"](http).json() == {"part": 0, "items": len(TEXTS), "first": 0, "next": 1}
        assert http.post(f"{ways.parted}/seal", json={"parts": 1}).status_code == 202
        assert sends["OpenAI's files"](http).status_code == 200
        # A call is taken, and then told that no worker heard of it: there is no Redis here
        assert sends["OpenAI's embeddings"](http).json()["error"]["code"] == "queue_unavailable"
        assert batch.status_code == 200 or ways.batch(http).status_code == 200
        assert http.get("/readyz").json()["storage"] == "ready" and http.get("/health").status_code == 200
        # And what a refused one has left is gone with the reconciler's next round
        small.served.service.batch_work.stop()
        stores.purges.mark(0)
        for job_id in stores.purges.marked():
            stores.purges.purge(job_id)
        assert {job.state for job in map(stores.jobs.get, stores.jobs.list_ids(100))} == {"queued"}
        kept = 3 * len(TEXTS)
        assert sum(job.total for job in map(stores.jobs.get, stores.jobs.list_ids(100))) == kept
