"""The driver of the fault suite: a whole mill of real servers and processes, and every way to hurt it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from embedmill import Client
from storage.contract.settings import Settings
from tests.faults import processes, producer
from tests.faults.encoder import CARD
from tests.faults.family import Family
from tests.faults.forms import FULL
from tests.faults.ledger import Ledger, Line
from tests.faults.oracle import Oracle, Report
from tests.faults.plain import PlainDatabase
from tests.faults.proxy import Proxy
from tests.faults.rows import missed_goal
from tests.faults.servers import RedisMachine
from tests.faults.shots import Shots
from tests.faults.stamps import stamp
from tests.servers import PostgresServer

#: Longest wait for anything that must come, in seconds.
PATIENCE = 90.0

_LOOK = 0.03


class Mill(Family):
    """Servers, supervisors and producers that belong together; made by `running_mill`.

    It also stands for its failpoints: `arm`, `fired` and `disarm` are those of `shots`.

    Args:
        folder: Where everything lies: data, logs, ledger, failpoints.
        redis: The Redis-protocol server.
        postgres: The database server; None on SQLite.
        database: URL of the database, without a proxy.
    """

    def __init__(self, folder: Path, redis: RedisMachine, postgres: PostgresServer | None, database: str) -> None:
        super().__init__(folder)
        self.redis = redis
        self.postgres = postgres
        self.database = database
        self.plain = PlainDatabase(database)
        self.redis_proxy: Proxy | None = None
        self.database_proxy: Proxy | None = None
        self.ledger = Ledger(folder / "ledger")
        self._client: Client | None = None
        self.shots = Shots(folder / "failpoints")
        self.arm, self.fired, self.disarm = self.shots.arm, self.shots.fired, self.shots.disarm
        self._tags = 0

    @property
    def client(self) -> Client:
        """A client in this process, beside the failpoints and the proxies."""
        if self._client is None:
            settings = Settings.load(
                database_url=self.database, redis_url=self.redis.url, model=CARD.name, data_dir=self.folder / "data"
            )
            self._client = Client(settings=settings)
        return self._client

    def tag(self, word: str = "job") -> str:
        """Return a tag that no other job here has."""
        self._tags += 1
        return f"{word}-{self._tags}"

    def submit(self, count: int, tag: str | None = None, **given: Any) -> str:
        """Submit in this process; return the job's id.

        Args:
            count: Number of texts; without a length about 800 of them fill a chunk, of length 2000 some 18.
            tag: Default: a new one.
            **given: Further fields of a ledger's `Line`.
        """
        return producer.submit(self.client, self.ledger, Line(tag or self.tag(), count, **given))

    def start_producer(self, count: int, tag: str | None = None, **given: Any) -> subprocess.Popen[bytes]:
        """Submit in a process of its own, on whose way the failpoints and the proxies are."""
        line = Line(tag or self.tag(), count, **given)
        process = self.start("tests.faults.producer", [json.dumps(asdict(line))])
        self.producers.append(process)
        return process

    def wait_complete(self, timeout: float = PATIENCE) -> None:
        """Wait until every accepted job has ended."""
        self.wait_for(lambda: not self.open_jobs(), timeout, "all jobs to end")

    def open_jobs(self) -> int:
        """Return how many sealed jobs have not ended."""
        return int(self.plain.value("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')"))

    def ready_workers(self) -> int:
        """Return how many worker processes have registered and live."""
        pids = set(self.worker_pids())
        return sum(pid in pids for (pid,) in self.sql("SELECT pid FROM workers"))

    def reconciler_pid(self) -> int:
        """Return the process id of the one reconciler."""
        (pid,) = self.wait_for(self.reconciler_pids)
        return int(pid)

    def wait_fired(self, name: str, action: str, timeout: float = PATIENCE) -> int:
        """Wait until somebody took the shot, and is dead or frozen where that was asked for; return its process id."""
        pid = int(self.wait_for(lambda: self.fired(name, action), timeout, f"{name}.{action} to be fired"))
        if action == "stop":
            self.wait_for(lambda: processes.state_of(pid) in ("", *"TtZX"), timeout, f"{pid} to stop")
        elif action == "kill":
            self.wait_for(lambda: not processes.alive(pid), timeout, f"{pid} to die")
            # Its first thread is gone; a child of ours can be seen to have ended once the others are too.
            for process in (*self.supervisors, *self.producers):
                if process.pid == pid:
                    process.wait(timeout)
        return pid

    def cut_connections(self) -> int:
        """Have PostgreSQL end every connection but this object's own, in whatever they do; return how many."""
        ended = self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return len(ended)

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query in plain SQL; a parameter is written `?`."""
        return self.plain.rows(query, parameters)

    def counters(self) -> dict[str, int]:
        """Return how often each defence was needed; a process adds its own within a second or two."""
        return {name: int(value) for name, value in self.sql("SELECT name, value FROM counters")}

    def wait_counted(self, name: str, more_than: int = 0, timeout: float = 60.0) -> int:
        """Wait until a counter has passed a value; return it."""
        wanted = f"the counter {name} to pass {more_than}"
        self.wait_for(lambda: self.counters().get(name, 0) > more_than, timeout, wanted)
        return self.counters()[name]

    def commits(self) -> int:
        """Return how many results were written so far."""
        return int(self.plain.value("SELECT max(id) FROM commit_log") or 0)

    def seconds_until_progress(self, timeout: float = PATIENCE) -> float:
        """Wait until another result is written, or none is left to be; return how long that took."""
        start, before = time.monotonic(), self.wait_for(lambda: (self.commits(),), timeout)[0]
        self.wait_for(lambda: self.commits() > before or not self.open_jobs(), timeout, "another commit")
        return time.monotonic() - start

    def wait_for(self, condition: Callable[[], Any], timeout: float = PATIENCE, what: str = "it") -> Any:
        """Wait until a condition holds; return what it returned. A database that is away counts as not yet."""
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(ConnectionError):
                if found := condition():
                    return found
            assert time.monotonic() < deadline, f"waited {timeout:.0f} s in vain for {what}\n{self.tails()}"
            time.sleep(_LOOK)

    def tails(self, characters: int = 1500) -> str:
        """Return the end of every log."""
        logs = [*sorted(self.folder.glob("*.log")), *([self.postgres.folder / "log"] if self.postgres else [])]
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-characters:]}" for path in logs)

    def record(self, scenario: str, figure: str, value: float) -> None:
        """Write a measured figure down, where `FAULTS_RESULTS` names a file; in the long form hold it to its goal."""
        if path := os.environ.get("FAULTS_RESULTS"):
            kind = "sqlite" if self.postgres is None else "postgresql"
            line = {"scenario": scenario, "database": kind, "figure": figure, "value": value, **stamp()}
            with Path(path).open("a") as results:
                results.write(json.dumps(line) + "\n")
        # The short form runs beside whatever else a machine has to do, and times prove nothing then.
        missed = missed_goal(scenario, figure, value) if FULL else ""
        assert not missed, f"{scenario}, {figure}: {value:g}, and {missed} is asked"

    def judge(self) -> Report:
        """Have the oracle judge everything there is; all should have come to rest."""
        return Oracle(self.plain, self.ledger).judge(self.folder, self.redis.contents())

    def heal(self) -> None:
        """Undo all that keeps anybody from working; start again what was killed."""
        self.disarm()
        for proxy in (self.redis_proxy, self.database_proxy):
            if proxy is not None:
                proxy.heal()
        for pid in processes.marked(self.folder):
            self.thaw(pid)
        self.redis.thaw()
        if self.redis.process is None:
            self.redis.start()
        if self.postgres is not None and self.postgres.process is None:
            self.postgres.start()
        self.revive_supervisors()

    def finish(self) -> None:
        """Heal, wait until all is done, and judge it."""
        self.heal()
        for process in self.producers:
            process.wait(PATIENCE)
        self.wait_complete()
        self.judge().assert_clean()

    def close(self) -> None:
        """Stop every process; fail if one is left."""
        self.disarm()
        if self._client is not None:
            self._client.close()
        self.plain.close()
        for process in self.producers:
            if process.poll() is None:
                process.kill()
            process.wait()
        for process in self.supervisors:
            process.send_signal(signal.SIGTERM)
        left = []
        for process in self.supervisors:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                left.append(process.pid)
                process.kill()
                process.wait()
        deadline = time.monotonic() + 30
        while processes.marked(self.folder) and time.monotonic() < deadline:
            time.sleep(_LOOK)
        left += processes.marked(self.folder)
        for pid in left:
            self.kill(pid)
        assert not left, f"processes were left: {left}\n{self.tails()}"
