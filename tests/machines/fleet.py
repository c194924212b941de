"""A mill over hosts of their own: Redis, PostgreSQL, the service, producers and workers, each on its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage.database import Database
from storage.migrations import migrate
from tests.faults.encoder import CARD
from tests.faults.ledger import Line
from tests.faults.mill import PATIENCE, Mill
from tests.faults.recoveries import held_by
from tests.faults.servers import RedisMachine
from tests.machines.network import Host, Network, network
from tests.servers import PostgresServer, running_postgres, short_folder

_POSTGRES_PORT, _API_PORT = 5432, 8000

_WORKERS = ("worker1", "worker2", "worker3")


class Fleet(Mill):
    """A mill whose parts are on hosts; made by `running_fleet`.

    Args:
        folder: As for `Mill`; every host sees it, as it sees this machine's disk.
        redis: Redis, on its host.
        postgres: PostgreSQL, on its host.
        database: URL of the database by its socket, for the judge.
        net: The network.
    """

    def __init__(
        self, folder: Path, redis: RedisMachine, postgres: PostgresServer, database: str, net: Network
    ) -> None:
        super().__init__(folder, redis, postgres, database)
        self.network = net
        self.hosts = {host.name: host for host in net.hosts}
        self.service: subprocess.Popen[bytes] | None = None
        self._homes: dict[int, Host] = {}

    def start_worker(self, name: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start a supervisor with its children on a host, with variables of its own."""
        host = self.hosts[name]
        process = self.start("tests.faults.supervisor", [], prefix=host.enter, **variables)
        self._homes[process.pid] = host
        self.supervisors.append(process)
        return process

    def revive_supervisors(self) -> int:
        """Start a new supervisor on each host whose own has ended; return how many."""
        ended = [process for process in self.supervisors if process.poll() is not None]
        for process in ended:
            self.supervisors.remove(process)
            self.start_worker(self._homes.pop(process.pid).name)
        return len(ended)

    def pids_on(self, name: str) -> list[int]:
        """Return the worker processes on a host."""
        pids = set(self.hosts[name].pids())
        return [pid for pid in self.worker_pids() if pid in pids]

    def holds(self, name: str) -> int:
        """Return how many chunks the workers of a host hold."""
        return len(held_by(self.plain, self.pids_on(name)))

    def exchange(self, name: str, **variables: str) -> None:
        """Put another machine in a worker's host's place, whose processes have variables of their own."""
        self.hosts[name].lose_power()
        self.hosts[name].mend()
        for process in [one for one in self.supervisors if self._homes[one.pid].name == name]:
            process.wait(60)
            self.supervisors.remove(process)
            del self._homes[process.pid]
        self.start_worker(name, **variables)
        self.wait_for(lambda: self.ready_workers() == len(_WORKERS), 120, "all workers to be ready")

    def start_service(self) -> None:
        """Start the HTTP service on its host."""
        if self.service is not None:
            self.service.wait(60)
        words = ["api", "--host", "0.0.0.0", "--port", str(_API_PORT)]
        self.service = self.start("embedmill", words, prefix=self.hosts["api"].enter)

    @property
    def url(self) -> str:
        """Where producers reach the service."""
        return f"http://{self.hosts['api'].address}:{_API_PORT}"

    def start_producer(self, count: int, tag: str | None = None, *, over_http: bool = False, **given: Any
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        """Submit in a process on the producers' host, to storage itself or to the service."""
        line = Line(tag or self.tag(), count, **given)
        told = {"EMBEDMILL_URL": self.url} if over_http else {}
        where = self.hosts["producer"].enter
        process = self.start("tests.faults.producer", [json.dumps(asdict(line))], prefix=where, **told)
        self.producers.append(process)
        return process

    def start_waiter(self, job: str) -> subprocess.Popen[bytes]:
        """Wait for a job's end over HTTP in a process on the producers' host."""
        where = self.hosts["producer"].enter
        process = self.start("tests.machines.waiter", [job], prefix=where, EMBEDMILL_URL=self.url)
        self.producers.append(process)
        return process

    @property
    def last_log(self) -> Path:
        """The log of what was started last."""
        return max(self.folder.glob("[0-9]*.log"))

    def accepted(self, process: subprocess.Popen[bytes], timeout: float = PATIENCE) -> None:
        """Wait until a producer has its job."""
        self.wait_for(lambda: process.poll() is not None, timeout, "a producer to end")
        assert process.returncode == 0, self.tails()

    def seconds_from(self, began: float) -> float:
        """Wait until a chunk that is claimed from now on is written; return the seconds since `began`."""
        mark, in_hand = (
            self.commits(),
            set(self.sql("SELECT CAST(job_id AS TEXT), number, token FROM chunks WHERE state = 'leased'")),
        )
        query = "SELECT job_id, number, token FROM commit_log WHERE id > ?"
        self.wait_for(lambda: set(self.sql(query, mark)) - in_hand, 150, "new work to be written")
        return time.monotonic() - began

    def heal(self) -> None:
        """Plug in and start again whatever is not."""
        self.network.mend()
        super().heal()
        if self.service is not None and self.service.poll() is not None:
            self.start_service()

    def close(self) -> None:
        """Stop every process."""
        self.network.mend()
        if self.service is not None and self.service.poll() is None:
            self.service.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.service.wait(30)
            self.service.kill()
        if self.service is not None:
            self.service.wait()
        super().close()


@contextmanager
def running_fleet(*, lease: float = 6.0, service: bool = True, **environment: str) -> Iterator[Fleet]:
    """Start a fleet of three workers; in the end have the oracle judge it, and stop everything.

    Args:
        lease: How long a silent worker keeps its chunks, in seconds.
        service: Whether the HTTP service runs.
        **environment: Variables of every process.
    """
    with ExitStack() as stack:
        net = stack.enter_context(network())
        hosts = {name: net.host(name) for name in ("producer", "redis", "postgres", "api", *_WORKERS)}
        folder = stack.enter_context(short_folder())
        redis = RedisMachine(
            folder, options={"protected-mode": "no"}, host=hosts["redis"].address, enter=hosts["redis"].enter
        )
        stack.callback(redis.kill)
        redis.start()
        place = hosts["postgres"]
        postgres = stack.enter_context(
            running_postgres(_POSTGRES_PORT, "synchronous_commit=on", address=place.address, enter=place.enter)
        )
        postgres.execute("CREATE DATABASE mill")
        opened = Database(postgres.url("mill"))
        migrate(opened)
        opened.close()
        fleet = Fleet(folder, redis, postgres, postgres.url("mill"), net)
        fleet.plain.install_log()
        fleet.environment = {
            "EMBEDMILL_DATABASE_URL": f"postgresql://postgres@{place.address}:{_POSTGRES_PORT}/mill",
            "EMBEDMILL_REDIS_URL": redis.url,
            "EMBEDMILL_DATA_DIR": str(folder / "data"),
            "EMBEDMILL_MODEL": CARD.name,
            "EMBEDMILL_LEASE_SECONDS": str(lease),
            "EMBEDMILL_STOP_GRACE": "1",
            "EMBEDMILL_AUTH": "none",
            "EMBEDMILL_OPEN_TO_ALL": "true",
            "EMBEDMILL_HOSTS": hosts["api"].address,
            "EMBEDMILL_FAILPOINTS": str(fleet.shots.folder),
            "FAULTS_LEDGER": str(fleet.ledger.path),
            "FAULTS_SLOTS": "1",
            "FAULTS_PAUSE_PER_TEXT": "0.01",
            **environment,
        }
        try:
            for name in _WORKERS:
                fleet.start_worker(name)
            if service:
                fleet.start_service()
            fleet.wait_for(lambda: fleet.ready_workers() == len(_WORKERS), what="all workers to be ready")
            yield fleet
            fleet.finish()
        except BaseException:
            print(fleet.tails(4000))
            raise
        finally:
            fleet.close()
