"""Hosts whose clocks are hours off, in either direction: everything goes by the database's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import httpx
import pytest
import standardwebhooks

from embedmill import Client
from storage.database import Database
from storage.stores import Stores
from tests.faults import processes
from tests.faults.encoder import CARD
from tests.faults.mill import Mill
from tests.faults.running import running_mill
from tests.machines.forms import full
from tests.needs import need_faketime
from tests.service.receiver import receiving
from tests.stack import free_port

HOUR = 3_600

pytestmark = pytest.mark.timeout(300)


def off_by(hours: int) -> dict[str, str]:
    """Return the variables of a process on a host whose clock is so far off."""
    return {"LD_PRELOAD": str(need_faketime()), "FAKETIME": f"{hours:+d}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def time_of(job_id: str) -> float:
    """Return when an id says that it was made, in seconds since 1970."""
    return int(job_id.replace("-", "")[:12], 16) / 1000


@pytest.fixture(scope="module")
def mill() -> Iterator[Mill]:
    """A mill whose worker is five hours ahead and keeps what has ended for an hour."""
    kept = {"EMBEDMILL_KEEP_DAYS": str(1 / 24)}
    # Leases are shorter than clocks are wrong, and longer than a machine stands still.
    with running_mill("postgresql", lease=600.0, **off_by(+5), **kept) as mill:
        yield mill


def test_the_bent_clock_is_bent() -> None:
    asked = [sys.executable, "-c", "import time; print(time.time())"]
    told = subprocess.run(asked, env={**os.environ, **off_by(+5)}, capture_output=True, text=True, timeout=60)
    assert abs(float(told.stdout) - time.time() - 5 * HOUR) < 60


def test_a_job_of_a_producer_that_is_behind_and_a_worker_that_is_ahead(mill: Mill) -> None:
    # When somebody submits whose clock is seven hours behind, and then one whose clock is right
    mill.environment |= off_by(-7)
    mill.start_producer(200, length=2_000, options={"expires_in": HOUR})
    mill.wait_for(lambda: len(mill.ledger.accepted()) == 1)
    right = mill.submit(20, length=2_000)
    mill.wait_complete()
    # Then nothing expired, no lease was taken from anybody, and nothing that has just ended was removed
    assert mill.sql("SELECT DISTINCT state FROM jobs") == [("completed",)]
    assert mill.plain.value("SELECT max(claims) FROM chunks") == 1
    assert mill.counters().get("leases_expired", 0) == 0
    time.sleep(3)  # three rounds of the reconciler
    assert len(mill.sql("SELECT id FROM jobs WHERE deleted_at IS NULL")) == 2
    # And ids sort by the time they were made at, whoever made them
    bent = next(line.job for line in mill.ledger.accepted() if line.job != right)
    assert bent is not None and bent < right
    assert abs(time_of(bent) - time.time()) < 300
    # And every time that is kept is the database's
    for created, finished in mill.sql("SELECT created_at, finished_at FROM jobs"):
        assert abs(created / 1000 - time.time()) < 300 and abs(finished / 1000 - time.time()) < 300


@full
def test_a_service_that_is_ahead_and_one_that_is_behind_are_one_service(mill: Mill) -> None:
    with receiving() as receiver, serving(mill, +5, receiver.port) as ahead, serving(mill, -7, receiver.port) as behind:
        database = Database(mill.database)
        stores = Stores.on(database)
        # Given a key that ends in an hour, and one that has ended
        _, key = stores.keys.create("an hour", expires_in=HOUR)
        record, ended = stores.keys.create("over", ["read"], expires_in=HOUR)
        mill.sql("UPDATE keys SET expires_at = expires_at - ? WHERE id = ?", 2 * HOUR * 1000, record.id)
        for url in (ahead, behind):
            assert httpx.get(f"{url}/v1/jobs", headers=bearer(key), timeout=60).status_code == 200
            assert httpx.get(f"{url}/v1/jobs", headers=bearer(ended), timeout=60).status_code == 401
        # When a job is submitted to the one, followed at the other by its events, and told to a webhook
        secret = httpx.post(f"{ahead}/v1/webhooks/secret", headers=bearer(key), timeout=60).json()["secret"]
        body = {"texts": ["a text"] * 3, "model": CARD.name, "webhook": {"url": receiver.url}}
        job = httpx.post(f"{ahead}/v1/jobs", headers=bearer(key), json=body, timeout=60).json()
        events = followed(f"{behind}/v1/jobs/{job['id']}/events", key)
        assert events[-1]["state"] == "completed"
        mill.wait_for(lambda: receiver.told, what="the webhook")
        # Then the receiver, whose clock is right, believes what it is told
        _, headers, told = receiver.told[0]
        assert standardwebhooks.Webhook(secret).verify(told, headers)["data"]["id"] == job["id"]
        # And every time that was told is the right one
        for name in ("created_at", "finished_at"):
            assert abs(datetime.fromisoformat(events[-1][name]).timestamp() - time.time()) < 300
        assert abs(time_of(job["id"]) - time.time()) < 300
        # And who signs in at the one is let in by the other
        with httpx.Client(timeout=60) as visitor:
            visitor.post(f"{behind}/signin", data={"key": key}, headers={"Origin": behind})
            assert visitor.cookies, "nobody was signed in"
            session = dict(visitor.cookies)
        assert httpx.get(f"{ahead}/", cookies=session, timeout=60).status_code == 200
        stores.database.close()
        forget(mill, job["id"])


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def followed(url: str, key: str) -> list[dict[str, Any]]:
    """Return what a stream of events told until its end."""
    told = []
    with httpx.stream("GET", url, headers=bearer(key), timeout=120) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:") and "state" in (event := json.loads(line[5:])):
                told.append(event)
    return told


def forget(mill: Mill, job_id: str) -> None:
    """Delete a job that stands in no ledger, so that the judge does not ask for it."""
    with Client(database_url=mill.database, redis_url=mill.redis.url, model=CARD.name) as client:
        client.job(job_id).delete()


@contextmanager
def serving(mill: Mill, hours: int, receiver: int) -> Iterator[str]:
    """Run a service with keys on a host whose clock is so far off; yield its address."""
    port = free_port()
    variables = mill.environment | off_by(hours) | {"EMBEDMILL_AUTH": "keys"}
    variables["EMBEDMILL_WEBHOOK_HOSTS"] = f"127.0.0.1:{receiver}"
    log = mill.folder / f"api-{hours}.log"
    process = processes.start("embedmill", ["api", "--port", str(port)], variables, log, mill.folder)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{url}/healthz", timeout=30).status_code == 200
        except httpx.TransportError:
            return False

    try:
        mill.wait_for(answers, what="the service")
        yield url
    finally:
        process.terminate()
        process.wait(30)
