"""A worker killed with -9 in the middle of a job, twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embedmill import Client
from storage.contract.options import JobOptions
from tests.faults.forms import full
from tests.servers import short_folder
from tests.stack import free_port, running, wait_until_ready, worker_pids
from worker.engine.checkpoint import resolve
from worker.engine.engine import Engine

ITEMS = 10_000

WORDS = [
    "amber",
    "birch",
    "cedar",
    "dune",
    "ember",
    "fern",
    "grove",
    "heath",
    "iris",
    "jade",
    "kelp",
    "lark",
    "moss",
    "nettle",
    "oak",
    "pine",
    "quartz",
    "reed",
    "sage",
]

#: Written by the database itself, beside the tables: a unique key would hide a second result.
LOG_EVERY_RESULT = """
CREATE TABLE result_log (job_id TEXT, number INTEGER, token INTEGER);
CREATE TRIGGER log_insert AFTER INSERT ON results
    BEGIN INSERT INTO result_log VALUES (new.job_id, new.number, new.token); END;
CREATE TRIGGER log_update AFTER UPDATE ON results
    BEGIN INSERT INTO result_log VALUES (new.job_id, new.number, new.token); END;
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


def texts() -> list[str]:
    n = len(WORDS)
    return [f"{WORDS[i % n]} {WORDS[i // n % n]} {WORDS[i // n // n % n]}" for i in range(ITEMS)]


@full
def test_a_job_outlives_two_killed_workers_with_every_vector_right_and_none_twice(data_dir: Path) -> None:
    # Given ten thousand texts in the middle of being embedded
    port, log = free_port(), data_dir / "up.log"
    arguments = ["up", "--port", str(port), "--data-dir", str(data_dir), "--dtype", "float32"]
    with running(arguments, {}, log) as stack, Client(data_dir=data_dir) as client:
        wait_until_ready(stack, port, log)
        connection = sqlite3.connect(data_dir / "embedmill.sqlite3", timeout=30)
        connection.executescript(LOG_EVERY_RESULT)
        job = client.submit(texts())
        # When the worker is killed, twice, each time with some of it done
        done = 0
        for _ in range(2):
            done = wait_for_more_than(client, job.id, done)
            (worker,) = worker_pids(stack.pid)
            os.kill(worker, signal.SIGKILL)
        # Then the job completes by itself
        status = job.wait(timeout=200)
        vectors = job.vectors()
        results = connection.execute("SELECT number, count(*) FROM result_log GROUP BY number").fetchall()
        crashes = connection.execute("SELECT sum(crashes) FROM chunks").fetchone()[0]
        connection.close()
    # And both deaths were noticed, every item has one vector, and each chunk was written once
    assert crashes >= 2, log.read_text()
    assert (status.state, status.succeeded, status.failed, status.pending) == ("completed", ITEMS, 0, 0)
    assert all(count == 1 for _, count in results) and len(results) > 2
    # And each is the vector of its own text
    sample = np.arange(0, ITEMS, 7)
    engine = Engine(resolve(client.settings.model), "cpu", "float32")
    wanted = engine.embed([texts()[i] for i in sample], JobOptions()).vectors
    engine.stop()
    assert np.abs(vectors[sample] - wanted).max() < 1e-5
    # Equal texts in unlike batches differ in the last bits, so that rounding may part them: look at one of each.
    _, firsts, same = np.unique(texts(), return_index=True, return_inverse=True)
    assert np.abs(vectors - vectors[firsts][same]).max() < 1e-5
    assert len(np.unique(vectors[firsts].round(5), axis=0)) == len(firsts)


def wait_for_more_than(client: Client, job_id: str, done: int) -> int:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        status = client.job(job_id).status()
        assert not status.is_final, "the job ended before the worker could be killed"
        if status.succeeded > done:
            return status.succeeded
        time.sleep(0.02)
    raise AssertionError("the job makes no progress")
