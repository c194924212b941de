"""Sentinels that speak TLS alone and ask for a password, before a primary that knows the advised users alone."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from producer.queue import Queue
from storage.contract.broker import KEY_PREFIX
from storage.contract.errors import QueueUnavailable
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.hints import Hints
from storage.redisclient import redis_client
from tests.acceptance.shell import until
from tests.faults.forms import FULL
from tests.machines.authority import Authority, Certificate
from tests.machines.conftest import USERS, users
from tests.machines.secureredis import OPERATOR, redis_program
from tests.servers import short_folder
from tests.stack import free_port
from tests.worker.taker import BULK, Taker, taking
from worker.parent import die_with_parent

SERVICE, WORD = "mill", "watch;word"

#: Only the file for what nobody else has to do: to replicate and to watch.
_WATCHMAN = f"user {OPERATOR} on >{WORD} ~* &* +@all"


class Watched(NamedTuple):
    """A primary, its follower and three Sentinels.

    Args:
        primary: The process that takes writes at first.
        worker_url: The URL of the worker's user.
        producer_url: The URL of the producer's user.
        folder: Where each of them logs.
    """

    primary: subprocess.Popen[bytes]
    worker_url: str
    producer_url: str
    folder: Path

    def told(self, word: str) -> int:
        """Return how often a word is in the logs."""
        return sum(log.read_text(errors="replace").count(word) for log in self.folder.glob("*.log"))


@contextmanager
def _server(folder: Path, lines: list[str], *more: str) -> Iterator[subprocess.Popen[bytes]]:
    program, name = redis_program()
    settings = folder / f"{free_port()}.conf"
    settings.write_text("\n".join(lines) + "\n")
    with settings.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [name, str(settings), *more],
            executable=program,
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


def _secured(port: int, certificate: Certificate, authority: Authority) -> list[str]:
    return [
        "bind 127.0.0.1",
        "port 0",
        f"tls-port {port}",
        f"tls-cert-file {certificate.chain}",
        f"tls-key-file {certificate.key}",
        f"tls-ca-cert-file {authority.file}",
        "tls-auth-clients no",
        "tls-replication yes",
    ]


@pytest.fixture
def watched(authority: Authority) -> Iterator[Watched]:
    """A running one; all know each other."""
    certificate = authority.certify("127.0.0.1")
    with short_folder() as folder, ExitStack() as running:
        ports = [free_port() for _ in range(5)]
        acl = folder / "users.acl"
        acl.write_text(f"{USERS.read_text().strip()}\n{_WATCHMAN}\n")
        common = ['save ""', f"dir {folder}", f"aclfile {acl}", f"masteruser {OPERATOR}", f'masterauth "{WORD}"']
        common += ["repl-diskless-sync-delay 0"]
        primary = running.enter_context(_server(folder, [*_secured(ports[0], certificate, authority), *common]))
        follower = [*_secured(ports[1], certificate, authority), *common, f"replicaof 127.0.0.1 {ports[0]}"]
        running.enter_context(_server(folder, follower))
        for port in ports[2:]:
            sentinel = [
                *_secured(port, certificate, authority),
                f"dir {folder}",
                f'requirepass "{WORD}"',
                f'sentinel sentinel-pass "{WORD}"',
                f"sentinel monitor {SERVICE} 127.0.0.1 {ports[0]} 2",
                f"sentinel auth-user {SERVICE} {OPERATOR}",
                f'sentinel auth-pass {SERVICE} "{WORD}"',
                f"sentinel down-after-milliseconds {SERVICE} 1000",
                f"sentinel failover-timeout {SERVICE} 5000",
            ]
            running.enter_context(_server(folder, sentinel, "--sentinel"))
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports[2:])
        known = users(USERS.read_text())

        def url(user: str) -> str:
            parameters = f"ssl_ca_certs={authority.file}&sentinel_password=watch%3Bword"
            return f"rediss+sentinel://{user}:{known[user][0]}@{hosts}/{SERVICE}?{parameters}"

        _wait_until_watched(url("embedmill-worker"))
        yield Watched(primary, url("embedmill-worker"), url("embedmill-producer"), folder)


def _wait_until_watched(url: str) -> None:
    """Wait until the Sentinels know each other, the primary and its replica."""
    deadline = time.monotonic() + 90
    with redis_client(url) as client:
        sentinels = client.connection_pool.sentinel_manager.sentinels  # type: ignore[attr-defined]
        for sentinel in sentinels:
            while True:
                with suppress(redis.RedisError):
                    state = sentinel.sentinel_master(SERVICE)
                    if int(state["num-other-sentinels"]) == 2 and int(state["num-slaves"]) == 1 and client.ping():
                        break
                assert time.monotonic() < deadline, "the Sentinels do not find each other"
                time.sleep(0.1)


@pytest.mark.usefixtures("patient_senders")
def test_messages_and_hints_go_through_secure_sentinels(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.hints._TIMEOUT", 20.0)
    primary, worker_url, producer_url, _ = watched
    sender, hints = Queue(producer_url), Hints(producer_url)
    with taking(worker_url, tmp_path / "w") as worker, redis_client(worker_url) as client:
        # Given a worker that takes messages
        sender.send([Pointer(new_id(), 0)], BULK)
        worker.wait(lambda: 0 in worker.notes("ended"))
        with hints.listen() as listener:
            hints.publish(["a-job"])
            assert listener.wait("a-job", 20)
        if FULL:
            # When the primary dies, then what is sent to the one that took over is taken by the same worker
            primary.kill()
            _send_until_taken(worker, sender)
            assert client.llen(KEY_PREFIX + BULK) == 0
        # And no password is in the log
        assert WORD not in worker.log() and "change-this" not in worker.log()
    sender.close()
    hints.close()


def _send_until_taken(worker: Taker, sender: Queue) -> None:
    deadline, number = time.monotonic() + 120, 1
    while len(worker.notes("ended")) < 2:
        assert time.monotonic() < deadline, worker.log()[-3000:]
        with suppress(QueueUnavailable):
            sender.send([Pointer(new_id(), number)], BULK)
            number += 1
        time.sleep(0.5)


def test_sentinels_that_are_not_known_are_asked_nothing(watched: Watched, tmp_path: Path) -> None:
    # Given URLs with another password, without TLS, and with another authority
    url = watched.producer_url
    known = url.split("ssl_ca_certs=")[1].split("&")[0]
    for wrong, seen in (
        (url.replace("watch%3Bword", "another"), ""),
        (
            url.replace("rediss+", "redis+").partition("?")[0] + "?sentinel_password=watch%3Bword",
            "wrong version number",
        ),
        (url.replace(known, str(Authority(tmp_path / "other").file)), "alert unknown ca"),
    ):
        assert not seen or not watched.told(seen)
        # When something is to be sent by one, then it is not
        with closing(Queue(wrong)) as sender, pytest.raises(QueueUnavailable, match="cannot be reached"):
            sender.send([Pointer(new_id(), 0)], BULK)
        # And where it is TLS that is wrong, each Sentinel was hung up on before a word was said
        if seen:
            until(lambda: watched.told(seen) == 3, f"three Sentinels that see {seen}")  # noqa: B023 - called here
