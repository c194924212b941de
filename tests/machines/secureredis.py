"""A Redis that speaks TLS and knows users, as Debian packages it; the one from PyPI is built without TLS."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from tests.machines.authority import Certificate
from tests.needs import need_program
from tests.servers import short_folder
from tests.stack import free_port
from worker.parent import die_with_parent

#: The user of tests, who may do everything.
OPERATOR = "operator"

_NO_ACL = "user default on nopass ~* &* +@all"

#: How long a server may take to answer after its start, in seconds.
_START = 30.0


class SecureRedis:
    """The running server.

    Args:
        folder: Where it lies, its unix socket too.
        port: The port of TLS, or of plain TCP where there is no certificate.
        process: The server.
    """

    def __init__(self, folder: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.port = port
        self.process = process
        self.operator: Any = redis.Redis(unix_socket_path=str(folder / "redis.sock"), username=OPERATOR, password="any")

    def denied(self) -> list[str]:
        """Return what was refused to whom since the last time, as `user: command or key`."""
        entries = self.operator.acl_log()
        self.operator.execute_command("ACL", "LOG", "RESET")
        return [f"{entry['username']}: {entry['object']}" for entry in entries if entry["reason"] != "auth"]


def redis_program() -> tuple[str, str]:
    """Return the path of a Redis with TLS, and the name to start it by."""
    # Debian's redis-server is a link to what redis-tools has: one program that goes by its name.
    return need_program("redis-server", "redis-check-rdb", package="redis-tools"), "redis-server"


@contextmanager
def secure_redis(certificate: Certificate | None, *, acl: str = _NO_ACL, ca: Path | None = None, clients: bool = False,
                 host: str = "127.0.0.1", **options: str) -> Iterator[SecureRedis]:  # fmt: skip
    """Run one until the block ends.

    Args:
        certificate: The server's; None: plain TCP.
        acl: The users, as an ACL file has them.
        ca: File of whoever certifies clients.
        clients: Whether each client needs a certificate.
        host: Address it listens on.
        **options: More of its settings, with underscores for hyphens.
    """
    program, name = redis_program()
    with short_folder() as folder:
        port, users = free_port(), folder / "users.acl"
        users.write_text(f"{acl.strip()}\nuser {OPERATOR} on nopass ~* &* +@all\n")
        secured = {} if certificate is None else {
            "port": "0",
            "tls-port": str(port),
            "tls-cert-file": str(certificate.chain),
            "tls-key-file": str(certificate.key),
            "tls-ca-cert-file": str(ca or certificate.chain),
            "tls-auth-clients": "yes" if clients else "no",
            "tls-replication": "yes",
        }  # fmt: skip
        settings = {
            "bind": host,
            "aclfile": str(users),
            "port": str(port),
            "unixsocket": str(folder / "redis.sock"),
            "dir": str(folder),
            "save": "",
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
            "logfile": str(folder / "redis.log"),
            **secured,
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        words = [word for key, value in settings.items() for word in (f"--{key}", value)]
        process = subprocess.Popen(
            [name, *words],
            executable=program,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        server = SecureRedis(folder, port, process)
        try:
            deadline = time.monotonic() + _START
            while True:
                with suppress(redis.RedisError, OSError):
                    if server.operator.ping():
                        break
                log = (folder / "redis.log").read_text() if (folder / "redis.log").exists() else ""
                assert process.poll() is None and time.monotonic() < deadline, log
                time.sleep(0.02)
            yield server
        finally:
            server.operator.close()
            process.kill()
            process.wait()
