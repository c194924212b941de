"""Fixtures that many tests share: real databases, a real Redis-protocol server; and CI's rule about skips."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from storage.database import Database
from storage.stores import Stores
from tests.acceptance.shell import Shell, serving
from tests.servers import PostgresServer, running_postgres, running_redis
from tests.skips import ALLOWED, allowed_patterns, unexpected

# A machine that stands still for a moment makes no example wrong: nowhere is one timed, whichever profile else is used.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("untimed")

# Under nohup the tests go on when the terminal is gone, but the programs that they start do not inherit that: a signal
# that is ignored stays so in them, one that is handled does not.
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of the tests' own: what they find out of hundreds of small models is nothing to the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL, the same for all tests."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """URL of a running Redis-protocol server with its append-only file on, the same for all tests."""
    with running_redis() as url:
        yield url


@pytest.fixture(scope="session")
def stack() -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """`embedmill up` with the real model, one for all tests: its folder, with `data/` and `log`, and its process."""
    with tempfile.TemporaryDirectory(prefix="em-") as name:
        folder = Path(name)
        shell = Shell(folder / "data", folder)
        with serving(shell, "up", "--port", 0, "--data-dir", folder / "data", log=folder / "log") as process:
            yield folder, process


@pytest.fixture(scope="session")
def way_to_postgres(postgres_server: PostgresServer) -> Iterator[Callable[[str], str]]:
    """Returns the URL of a database; where `POOLED` is set, one through PgBouncer in its transaction mode."""
    if not os.environ.get("POOLED"):
        yield postgres_server.url
        return
    from tests.machines.pgbouncer import running_pgbouncer

    with running_pgbouncer(postgres_server) as pooler:
        yield pooler.url


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, way_to_postgres: Callable[[str], str]) -> Iterator[str]:
    """URL of an empty PostgreSQL database, a new one for each test."""
    name = postgres_server.create()
    yield way_to_postgres(name)
    postgres_server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of either kind, a new one for each test."""
    if request.param == "sqlite":
        path = tmp_path / "empty.sqlite3"
        path.touch()
        return f"sqlite:///{path}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file that tests copy."""
    path = tmp_path_factory.mktemp("migrated") / "embedmill.sqlite3"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> str:
    """Name of a migrated PostgreSQL database that tests take one after another, emptied in between."""
    name = postgres_server.create()
    _migrate(postgres_server.url(name))
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a migrated database of either kind, without a row in it."""
    if request.param == "sqlite":
        path = tmp_path / "embedmill.sqlite3"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    name: str = request.getfixturevalue("migrated_postgres")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    # Before, not after: whoever had it may have left rows behind.
    server.empty(name)
    yield request.getfixturevalue("way_to_postgres")(name)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database of either kind, without a row in it."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def stores(database: Database) -> Stores:
    """All stores over an empty database of either kind."""
    return Stores.on(database)


@pytest.fixture
def open_again(database_url: str) -> Iterator[Callable[[], Stores]]:
    """Opens the same database once more, as another process would."""
    opened: list[Database] = []

    def open_stores() -> Stores:
        opened.append(Database(database_url))
        return Stores.on(opened[-1])

    yield open_stores
    for database in opened:
        database.close()


def _migrate(url: str) -> None:
    from storage.migrations import migrate

    database = Database(url)
    migrate(database)
    database.close()


class _SkipRule:
    """Fails a run in CI that skipped what nobody allowed; with pytest-xdist in the process that gathers the reports."""

    def __init__(self) -> None:
        self.skips: list[tuple[str, str]] = []
        self.unexpected: list[str] = []

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
            self.skips.append((report.nodeid, report.longrepr[2].removeprefix("Skipped: ")))

    pytest_runtest_logreport = note
    pytest_collectreport = note

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.unexpected = unexpected(self.skips, allowed_patterns(ALLOWED.read_text()))
        if self.unexpected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.unexpected:
            terminalreporter.section("skipped in CI, and not on the list of allowed skips", red=True)
            terminalreporter.write_line("\n".join(self.unexpected))


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") == "true":
        config.pluginmanager.register(_SkipRule(), "skip-rule")
