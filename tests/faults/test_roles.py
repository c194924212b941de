"""The whole path on a PostgreSQL where each side has a role of its own, which may do what it needs and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from embedmill import Client
from producer.api.settings import ApiSettings
from storage.checkups import ondatabase, onqueues
from storage.checkups.check import Verdict
from storage.contract.settings import Settings
from storage.database import Database
from storage.migrations import migrate
from storage.rights import Side, grant
from tests.doctor.looking import outcomes
from tests.faults import producer
from tests.faults.encoder import CARD
from tests.faults.forms import full
from tests.faults.ledger import Line
from tests.faults.mill import Mill
from tests.faults.running import running_mill
from tests.service.serving import serving
from tests.storage.rolemaking import NAMES, as_role, make_roles


def _made_by_its_owner(database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    make_roles(url)
    owner = as_role(url, "embedmill_owner")
    migrate(owner)
    grant(owner, NAMES)
    owner.close()


@full
@pytest.mark.timeout(600)
def test_texts_go_their_whole_way_and_are_purged(tmp_path: Path) -> None:
    with running_mill("postgresql", made=_made_by_its_owner, role=NAMES[Side.WORKER]) as mill:
        database = as_role(mill.database, NAMES[Side.API])
        url = database.url.render_as_string(hide_password=False)
        database.close()
        # When jobs are submitted beside the service: a plain one, one with a text that ends worker after worker, one
        # with a text that fails again and again, one whose texts go at its end
        with Client(database_url=url, redis_url=mill.redis.url, model=CARD.name, data_dir=tmp_path) as client:
            lines = [
                Line("plain", 50, ids=True),
                Line("poisonous", 4, markers={1: "!exit"}),
                Line("failing", 4, markers={2: "!raise"}),
                Line("forgotten", 4, options={"keep_texts_days": 0}),
            ]
            jobs = {line.tag: client.job(producer.submit(client, mill.ledger, line)) for line in lines}
            for job in jobs.values():
                job.wait(timeout=120)
            assert len(jobs["plain"].vectors()) == 50
            assert [error.position for error in jobs["poisonous"].errors()] == [1]
            jobs["failing"].retry_failed()
            jobs["failing"].wait(timeout=120)
            mill.wait_for(lambda: not mill.sql(_TEXTS, jobs["forgotten"].id)[0][0], what="the texts to go")
        # And by the service, with keys and quotas
        settings = ApiSettings.load(
            database_url=url, redis_url=mill.redis.url, model=CARD.name, data_dir=tmp_path, auth="keys"
        )
        with serving(settings) as served:
            _, operator = served.service.stores.keys.create("operator", ["admin"])
            with served.http(operator) as http:
                asked = {
                    "name": "guest",
                    "scopes": ["read", "write", "embed"],
                    "max_jobs": 9,
                    "tokens_per_minute": 9999,
                }
                made = http.post("/v1/keys", json=asked).raise_for_status().json()
            with served.http(made["key"]) as http:
                _use(http, mill.wait_for)
            with served.http(operator) as http:
                assert http.delete(f"/v1/keys/{made['id']}").is_success
                assert http.get("/v1/workers").is_success and http.get("/metrics").is_success
        # Then what was deleted is gone, and the doctor finds each role well
        mill.wait_for(lambda: not mill.sql("SELECT 1 FROM jobs WHERE deleted_at IS NOT NULL"), what="the purge")
        for side in Side:
            _examine(mill, side)
        assert "permission denied" not in mill.tails(1_000_000)
        assert mill.counters().get("sweeps_failed", 0) == 0


_TEXTS = "SELECT sum(length(texts)) FROM inputs WHERE job_id = CAST(? AS uuid)"


def _use(http: httpx.Client, wait_for: Callable[..., Any]) -> None:
    """Submit whole and in parts, by a file's batch and by a call; look, cancel, delete."""
    body = {"texts": ["a text", "another"], "webhook": {"url": "https://example.com/told"}}
    whole = http.post("/v1/jobs", json=body).raise_for_status().json()["id"]
    parted = http.post("/v1/jobs", json={"parts": True}).raise_for_status().json()["id"]
    http.put(f"/v1/jobs/{parted}/parts/0", content=b'"in a part"\n', headers=_NDJSON).raise_for_status()
    http.post(f"/v1/jobs/{parted}/seal").raise_for_status()
    line = b'{"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {"model": "%s", "input": "x"}}\n'
    sent = {"file": ("lines.jsonl", line % CARD.name.encode())}
    file = http.post("/v1/files", files=sent, data={"purpose": "batch"}).raise_for_status().json()["id"]
    asked = {"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    batch = http.post("/v1/batches", json=asked).raise_for_status().json()["id"]
    http.post("/v1/embeddings", json={"input": "now", "model": CARD.name}).raise_for_status()
    for job in (whole, parted):
        wait_for(lambda j=job: http.get(f"/v1/jobs/{j}").json()["state"] == "completed", what="a job to end")
        http.get(f"/v1/jobs/{job}/results?format=npy").raise_for_status()
        http.delete(f"/v1/jobs/{job}").raise_for_status()
    wait_for(lambda: http.get(f"/v1/batches/{batch}").json()["status"] == "completed", what="the batch to end")
    http.post("/v1/webhooks/secret").raise_for_status()
    ended = http.get(f"/v1/batches/{batch}").json()
    http.get(f"/v1/files/{ended['output_file_id']}/content").raise_for_status()
    for name in (file, ended["output_file_id"]):
        http.delete(f"/v1/files/{name}").raise_for_status()
    unwanted = http.post("/v1/jobs", json={"texts": ["unwanted"]}).raise_for_status().json()["id"]
    assert http.post(f"/v1/jobs/{unwanted}/cancel").status_code in (200, 409)  # it may have ended by then
    http.delete(f"/v1/jobs/{unwanted}").raise_for_status()


_NDJSON = {"Content-Type": "application/x-ndjson"}


def _examine(mill: Mill, side: Side) -> None:
    database = as_role(mill.database, NAMES[side])
    settings = Settings(database_url=database.url.render_as_string(hide_password=False), redis_url=mill.redis.url)
    database.close()
    for area in (ondatabase.area(settings), onqueues.area(settings)):
        found = outcomes(area)
        found.pop("durability", None)  # the tests' own server waits for no disk
        assert [name for name, outcome in found.items() if outcome.verdict is Verdict.WRONG] == [], found
    rights = outcomes(ondatabase.area(settings))["rights"]
    assert rights.verdict is Verdict.OK and f"what the {side} needs" in rights.found
