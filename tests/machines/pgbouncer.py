"""PgBouncer in its transaction mode before a PostgreSQL of tests."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.machines.authority import Certificate
from tests.needs import need_program
from tests.servers import PostgresServer, short_folder
from tests.stack import free_port
from worker.parent import die_with_parent

#: How long it may take to answer after its start, in seconds.
_START = 30.0


class PgBouncer:
    """The running pooler.

    Args:
        port: Where it listens, on 127.0.0.1.
        is_secure: Whether it speaks TLS alone.
        process: The program.
    """

    def __init__(self, port: int, is_secure: bool, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self._is_secure = is_secure
        self._process = process

    def url(self, name: str, parameters: str = "") -> str:
        """Return the URL of a database, as a user would write it."""
        mode = "" if self._is_secure else "sslmode=disable"
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}?{parameters or mode}"

    def stop(self) -> None:
        """End it at once, its connections too, and wait until it has ended."""
        self._process.terminate()
        self._process.wait()


@contextmanager
def running_pgbouncer(
    postgres: PostgresServer, certificate: Certificate | None = None, pool: int = 20
) -> Iterator[PgBouncer]:
    """Run one until the block ends.

    Args:
        postgres: Where its connections lead.
        certificate: Its own, and no client is heard without TLS; None: it speaks none.
        pool: How many connections to each database it shares out.
    """
    program = need_program("pgbouncer", package="pgbouncer")
    with short_folder() as folder:
        port = free_port()
        behind = f"host={postgres.folder} user=postgres" + (f" port={postgres.port}" if postgres.port else "")
        lines = [
            "[databases]",
            f"* = {behind}",
            "[pgbouncer]",
            "pool_mode = transaction",
            "listen_addr = 127.0.0.1",
            f"listen_port = {port}",
            "unix_socket_dir =",
            "auth_type = any",
            f"default_pool_size = {pool}",
            "max_client_conn = 500",
            f"logfile = {folder / 'log'}",
        ]
        if certificate is not None:
            lines += [
                "client_tls_sslmode = require",
                f"client_tls_cert_file = {certificate.chain}",
                f"client_tls_key_file = {certificate.key}",
            ]
        settings = folder / "pgbouncer.ini"
        settings.write_text("\n".join(lines) + "\n")
        # It refuses to run as root.
        folder.chmod(0o777)
        settings.chmod(0o644)
        other = ["-u", "nobody"] if os.geteuid() == 0 else []
        process = subprocess.Popen(
            [program, "-q", *other, str(settings)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        pooler = PgBouncer(port, certificate is not None, process)
        try:
            deadline = time.monotonic() + _START
            while True:
                try:
                    psycopg.connect(
                        pooler.url("postgres", "sslmode=require" if certificate else ""), connect_timeout=5
                    ).close()
                    break
                except psycopg.OperationalError as error:
                    log = (folder / "log").read_text() if (folder / "log").exists() else ""
                    assert process.poll() is None and time.monotonic() < deadline, f"{error}\n{log}"
                    time.sleep(0.02)
            yield pooler
        finally:
            process.kill()
            process.wait()
