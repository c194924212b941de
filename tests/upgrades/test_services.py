"""A rolling upgrade as users meet it: the service and a worker of the version before beside today's, a real model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from embedmill import Client
from producer.remote import checkup
from producer.remote.client import HttpClient
from storage.checkups.check import Outcome, Verdict
from storage.contract.errors import IdempotencyConflict
from storage.contract.settings import Settings
from storage.database import SCHEMA_VERSION, Database
from storage.migrations import migrate
from tests.acceptance.shell import address, until
from tests.doctor.looking import outcomes
from tests.faults.forms import full
from tests.servers import PostgresServer
from tests.stack import running
from tests.upgrades.versions import checked_out, previous_schema

_TEXTS = [f"On day {n} the miller ground {n * n} sacks of rye and wheat beside the river." for n in range(20)]

#: Longest wait for a start, and for a job, on a machine that does much else, in seconds.
_START, _PATIENCE = 300, 600


@dataclass
class Fleet:
    """Processes over one database and one Redis, of any version.

    Args:
        folder: Where their logs lie.
        environment: Says where database and Redis are.
    """

    folder: Path
    environment: dict[str, str]
    stacks: list[ExitStack] = field(default_factory=list)

    def start(self, name: str, *words: str, root: Path | None = None) -> tuple[str, Callable[[], None]]:
        """Start a command and wait until it is ready; return its address, and what stops it in order.

        Args:
            name: Of its log.
            *words: The command.
            root: Folder of the version that is run; default: today's.
        """
        log = self.folder / f"{name}.log"
        chosen = {} if root is None else {"PYTHONPATH": str(root), "PYTHONSAFEPATH": "1"}
        stack = ExitStack()
        self.stacks.append(stack)
        stack.enter_context(running(list(words), self.environment | chosen, log))
        until(lambda: "/readyz" in log.read_text(), f"{name} to answer", _START)
        url = address(log)
        until(lambda: httpx.get(f"{url}/readyz", timeout=60).status_code == 200, f"{name} to be ready", _START)
        return url, stack.close

    def client(self, url: str) -> HttpClient:
        """Return a client of a service."""
        stack = ExitStack()
        self.stacks.append(stack)
        return stack.enter_context(Client(url))


@contextmanager
def fleet(folder: Path, database: str, redis: str) -> Iterator[Fleet]:
    places = {"EMBEDMILL_DATABASE_URL": database, "EMBEDMILL_REDIS_URL": redis}
    quiet = {"HF_HUB_OFFLINE": "1", "EMBEDMILL_DATA_DIR": str(folder / "data")}
    kept = {name: "" for name in os.environ if name.startswith("EMBEDMILL_")}
    made = Fleet(folder, kept | places | quiet)
    try:
        yield made
    finally:
        for stack in reversed(made.stacks):
            stack.close()


def embedded(client: HttpClient, texts: list[str], **given: Any) -> Any:
    """Submit texts to a service and return the job, finished."""
    job = client.submit(texts, **given)
    assert job.wait(_PATIENCE).succeeded == len(texts)
    return job


def alike(one: Any, other: Any) -> bool:
    """Whether two matrices of unit vectors are the same but for the order in which batches were added up."""
    return one.shape == other.shape and bool(np.all((one * other).sum(axis=1) > 0.99999))


def versions(url: str) -> Outcome:
    return outcomes(checkup.area(Settings.load(url=url)))["versions"]


@full
@pytest.mark.timeout(1800)
def test_a_service_of_the_version_before_and_todays_are_one_service(
    tmp_path: Path, postgres_server: PostgresServer, redis_server: str
) -> None:
    # Given the version before: a worker with a real model and a service, in the midst of a large job
    before = tmp_path / "before"
    known = checked_out(previous_schema(), before)
    assert int(known) == int(SCHEMA_VERSION) - 1
    database = Database(postgres_server.url(postgres_server.create()))
    migrate(database, known)
    with fleet(tmp_path, database.url.render_as_string(hide_password=False), redis_server) as processes:
        _, stop_old_worker = processes.start("old-worker", "worker", "--health-port", "0", root=before)
        old, stop_old = processes.start("old-api", "api", "--port", "0", root=before)
        by_old = processes.client(old)
        wanted = embedded(by_old, _TEXTS).vectors()
        large = by_old.submit(f"{text} Again, {n}." for n in range(200) for text in _TEXTS)
        until(lambda: large.status().succeeded > 0, "a job in its midst", _PATIENCE)
        # When the schema is migrated under them, then both stay ready, and a service of today stands beside
        migrate(database)
        assert httpx.get(f"{old}/readyz", timeout=60).status_code == 200
        new, _ = processes.start("new-api", "api", "--port", "0")
        by_new = processes.client(new)
        told = httpx.get(f"{old}/v1/workers", timeout=60).json()
        assert "services" not in told, "the old one is not the version before"
        # Then what one has accepted the other knows: by its id, and by its idempotency key
        job = embedded(by_old, _TEXTS, idempotency_key="monday")
        assert alike(by_new.job(job.id).vectors(), wanted)
        assert by_new.submit(_TEXTS, idempotency_key="monday").id == job.id
        with pytest.raises(IdempotencyConflict):
            by_new.submit(_TEXTS[1:], idempotency_key="monday")
        again = embedded(by_new, _TEXTS, idempotency_key="tuesday")
        assert by_old.submit(_TEXTS, idempotency_key="tuesday").id == again.id
        assert by_old.job(again.id).vectors().tobytes() == again.vectors().tobytes()
        # And a worker of the version before is told of
        told = versions(new)
        assert told.verdict is Verdict.WARNING and "version before" in told.found
        # When a worker of today comes, and works beside it, then each reads what either did
        processes.start("new-worker", "worker", "--health-port", "0")
        both = httpx.get(f"{new}/v1/workers", timeout=60).json()["workers"]
        assert sorted(str(one["schema_version"]) for one in both) == [SCHEMA_VERSION, "None"]
        assert len(httpx.get(f"{old}/v1/workers", timeout=60).json()["workers"]) == 2
        for one, other in ((by_old, by_new), (by_new, by_old)):
            assert alike(other.job(embedded(one, _TEXTS).id).vectors(), wanted)
        # When the version before leaves, then the large job ends, and nothing of it is missing or differs
        stop_old_worker()
        stop_old()
        found = by_new.job(large.id)
        status = found.wait(_PATIENCE)
        assert (status.state, status.succeeded, status.failed) == ("completed", 4_000, 0)
        assert alike(found.vectors()[:20], embedded(by_new, [f"{text} Again, 0." for text in _TEXTS]).vectors())
        # And one version is left
        assert versions(new).verdict is Verdict.OK and SCHEMA_VERSION in versions(new).found
        with database.read() as connection:
            broken = "SELECT count(*) FROM counters WHERE name = 'invariants_broken' AND value > 0"
            assert connection.exec_driver_sql(broken).scalar_one() == 0
    database.close()
