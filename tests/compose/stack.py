"""One compose project: its secrets, its containers, its database, jobs on it and the vectors that they must have."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from embedmill import Client
from storage.contract.errors import ServerError
from tests.commands import until
from tests.compose.engine import Engine
from tests.compose.report import Broken, Report

#: Longest wait for anything, in seconds.
_PATIENCE = 900.0

#: A word in every text, which must be found in no log.
CANARY = "zephyrquartz"


class Stack:
    """What the steps work with.

    Args:
        engine: Runs the commands.
        report: Where what was found goes.
        texts: The texts of every job.
    """

    def __init__(self, engine: Engine, report: Report, texts: list[str]) -> None:
        self.engine = engine
        self.report = report
        self.texts = texts
        self.key = ""
        #: The vectors of the first job, which those of all others must be like.
        self.reference: NDArray[np.float32] | None = None

    @property
    def url(self) -> str:
        """Where the API is published."""
        return f"http://127.0.0.1:{self.engine.variables['EMBEDMILL_PORT']}"

    @property
    def secrets(self) -> dict[str, str]:
        """The words that must not be seen anywhere, by their names."""
        folder = Path(self.engine.variables["EMBEDMILL_SECRETS"])
        words = {path.name: path.read_text().strip() for path in sorted(folder.iterdir())}
        return words | ({"key": self.key} if self.key else {})

    def until(self, what: str, holds: Callable[[], Any], patience: float = _PATIENCE) -> Any:
        """Wait until something is so; servers may be away meanwhile.

        Raises:
            TimeoutError: When it is not in time.
        """
        return until(what, holds, patience, (ServerError, httpx.HTTPError))

    def up(self, *words: str, workers: int = 1) -> None:
        """Start what is not running as it should, and wait until everything is healthy."""
        self.engine.compose("up", "-d", "--scale", f"worker={workers}", *words)
        for service, count in (("redis", 1), ("postgres", 1), ("api", 1), ("worker", workers)):
            self.until(f"{count} {service} healthy", lambda s=service, n=count: len(self.healthy(s)) == n)

    def scale(self, workers: int) -> None:
        """Have so many workers, as whoever operates types it; nobody else is made or started anew by that."""
        others = {name: self.engine.containers(name) for name in ("redis", "postgres", "api")}
        self.up(workers=workers)
        kept = {name: self.engine.containers(name) for name in others} == others
        self.report.check(f"with {workers} workers the others run on", kept, ", ".join(others))

    def healthy(self, service: str) -> list[str]:
        """Return the running containers of a service that its health check finds well."""
        states = {name: self.engine.inspect(name)["State"] for name in self.engine.containers(service)}
        return [name for name, state in states.items() if state.get("Health", {}).get("Status") == "healthy"]

    def cli(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run the cli container; return what it printed."""
        return self.engine.compose("run", "--rm", "-T", "--no-deps", "cli", *words, stdin=stdin, check=check)

    def sql(self, statement: str) -> str:
        """Ask the database as its owner, inside its container."""
        command = ["psql", "-U", "embedmill", "-d", "embedmill", "-tAc", statement]
        return self.engine.execute(self.engine.containers("postgres")[0], *command)

    def holders(self) -> list[str]:
        """Return the hosts of the workers that hold leases now: a container's host is the beginning of its id."""
        leased = "SELECT DISTINCT w.host FROM chunks c JOIN workers w ON w.id = c.lease_owner WHERE c.state = 'leased'"
        return self.sql(leased).split()

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client that asks the published API, with the key."""
        with Client(self.url, api_key=self.key) as client:
            yield client

    @contextmanager
    def job_under_way(self) -> Iterator[str]:
        """Submit the texts and yield the job's id once it is under way; in the end wait for it and check it whole.

        Raises:
            Broken: When it is not whole.
        """
        with self.client() as client:
            job = client.submit(self.texts)
            self.until("the job is under way", lambda: job.status().succeeded > 0)
            try:
                yield job.id
            except (Broken, TimeoutError):
                self.report.note(f"the job: {job.status()}")
                raise
            began = time.monotonic()
            self.until("the job has ended", lambda: job.status().is_final)
            self.report.note(f"the job ended {time.monotonic() - began:.0f} s later")
            self.check_job(job)

    def pending(self, job_id: str) -> int:
        """Return how many items of a job are not done; where there are none, what is then done to it shows nothing."""
        return int(self.sql(f"SELECT coalesce(sum(size), 0) FROM chunks WHERE job_id = '{job_id}' AND state <> 'done'"))

    def of_all(self, pending: int) -> str:
        """Return the words for a number of pending items."""
        return f"{pending} of {len(self.texts)} pending"

    def check_job(self, job: Any) -> None:
        """Check that a job has a vector for every text, and the one that it must have."""
        status = job.status()
        counts = f"{status.state}, {status.succeeded} of {status.total} succeeded"
        self.report.check("every text has its vector", status.succeeded == status.total == len(self.texts), counts)
        self.check_vectors(job.vectors())

    def check_vectors(self, vectors: NDArray[np.float32]) -> None:
        """Check that vectors are those of the first job; the first ones become those."""
        if self.reference is None:
            self.reference = vectors
            return
        least = float((unit(vectors) * unit(self.reference)).sum(axis=1).min())
        self.report.check("row by row they are those of the first job", least > 0.99999, f"least cosine {least:.7f}")


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows at length 1."""
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def free_ports(count: int) -> list[str]:
    """Return ports of this machine that nobody listens on."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def make_texts(sentences: Path, count: int) -> list[str]:
    """Return texts of about sixty tokens, each its own, made of the example sentences."""
    lines = [json.loads(line)["text"] for line in sentences.read_text(encoding="utf-8").splitlines()]
    whole = [line for line in lines if 20 < len(line) < 200]
    return [f"{CANARY} {i}: " + " ".join(whole[(i * 7 + j) % len(whole)] for j in range(4)) for i in range(count)]
