"""Real texts through a worker, Redis and PostgreSQL of one's own, beside sentence-transformers on the same texts."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from embedmill import Client
from tests.acceptance.shell import address, until
from tests.servers import PostgresServer
from tests.stack import running, wait_until_ready
from worker.engine.checkpoint import resolve

SENTENCES = Path(__file__).parents[2] / "examples" / "sentences.jsonl"


def real_texts() -> list[str]:
    """Return 1,040 texts of 1 to 600 tokens: sentences, their beginnings, and several run together."""
    lines = [json.loads(line)["text"] for line in SENTENCES.read_text(encoding="utf-8").splitlines()]
    sentences = [text for text in lines if text.strip() and len(text) < 1000]
    chance = random.Random(7)
    beginnings = [sentence[: chance.randint(1, len(sentence))].strip() or "a" for sentence in sentences]
    pairs = [" ".join(chance.sample(sentences, 2)) for _ in range(500)]
    long = [" ".join(chance.sample(sentences, chance.randint(3, 60))) for _ in range(30)]
    everything = [*sentences, *beginnings, *pairs, *long]
    chance.shuffle(everything)
    return everything


@pytest.fixture(scope="module")
def client(
    postgres_server: PostgresServer, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A client of a worker that serves float32 over PostgreSQL."""
    name = postgres_server.create()
    migrate = ["migrate", "--database-url", postgres_server.url(name)]
    subprocess.run([sys.executable, "-m", "embedmill", *migrate], check=True, timeout=100)
    urls = ["--database-url", postgres_server.url(name), "--redis-url", redis_server]
    log = tmp_path_factory.mktemp("worker") / "log"
    with (
        running(["worker", "--health-port", "0", "--dtype", "float32", *urls], {}, log) as worker,
        Client(database_url=urls[1], redis_url=urls[3]) as client,
    ):
        until(lambda: "/readyz" in log.read_text(), "its address", 100)
        wait_until_ready(worker, int(address(log).rsplit(":", 1)[1]), log)
        yield client
    postgres_server.drop(name)


def test_vectors_are_those_of_sentence_transformers(client: Client) -> None:
    # Given a thousand real texts, English and Chinese, short and long
    texts = real_texts()
    assert len(texts) > 1000
    # When they have gone through the queue
    job = client.submit(texts, ids=[f"text-{i}" for i in range(len(texts))])
    status = job.wait(timeout=200)
    # Then every vector is within 1e-5 of the one computed directly
    reference = SentenceTransformer(str(resolve(client.settings.model).folder), device="cpu")
    wanted = reference.encode(texts, show_progress_bar=False)
    assert (status.state, status.succeeded) == ("completed", len(texts))
    assert np.abs(job.vectors() - wanted).max() < 1e-5
    # And what was cut is what has more tokens than the model reads
    lengths = np.array([len(ids) for ids in reference.tokenizer(texts, truncation=False)["input_ids"]])
    assert lengths.min() == 3 and lengths.max() > 512
    outcomes = list(job.results())
    assert [outcome.truncated for outcome in outcomes] == (lengths > 256).tolist()
    assert [outcome.tokens for outcome in outcomes] == np.minimum(lengths, 256).tolist()
    assert [outcome.id for outcome in outcomes] == [f"text-{i}" for i in range(len(texts))]


def test_results_can_be_read_while_the_job_runs(client: Client) -> None:
    job = client.submit([f"number {i}" for i in range(3000)])
    seen = [outcome.position for outcome in job.results()]
    assert seen == list(range(3000))


def test_celerys_own_inspection_reaches_the_worker(client: Client) -> None:
    def answered() -> bool:
        # Each waits for a second alone.
        ping = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "worker.app", "inspect", "ping"],
            env={"PATH": "/usr/bin:/bin", "EMBEDMILL_REDIS_URL": client.settings.redis},
            cwd=SENTENCES.parents[1],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return ping.returncode == 0 and "pong" in ping.stdout

    until(answered, "a worker to answer", 90)
