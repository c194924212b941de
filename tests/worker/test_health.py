"""The addresses for whoever watches a machine."""

from __future__ import annotations

import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from storage.contract.errors import AddressInUse, StorageUnavailable
from storage.stores import Stores
from worker import health, metrics
from worker.health import HealthServer
from worker.settings import WorkerSettings


def get(port: int, path: str) -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


class Machine:
    """A machine that is watched; its database can be away."""

    def __init__(self, ready: bool = True, away: bool = False, lives: bool = True) -> None:
        self.ready, self.away, self.lives = ready, away, lives

    def liveness(self) -> tuple[bool, dict[str, str]]:
        return self.lives, {} if self.lives else {"reconciler": "its loop has stood still for 301 s"}

    def readiness(self) -> tuple[bool, dict[str, str]]:
        return self.ready, {"storage": "ready", "worker on cpu": "starting"}

    def metrics(self, everything: bool = False) -> bytes:
        if self.away:
            raise StorageUnavailable("The database does not answer.")
        return b"embedmill_commits_late_total 3.0\n"


@contextmanager
def answering(machine: Machine) -> Iterator[int]:
    server = HealthServer("127.0.0.1", 0, machine)
    server.start()
    try:
        yield server.port
    finally:
        server.close()


def test_what_hangs_is_to_be_started_anew() -> None:
    with answering(Machine(lives=False)) as port:
        code, told = get(port, "/healthz")
        assert (code, told["status"]) == (503, "hangs") and "stood still" in told["reconciler"]


def test_a_reconciler_whose_loop_stands_still_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a reconciler that is watched
    now = [1000.0]
    monkeypatch.setattr(metrics, "time", SimpleNamespace(monotonic=lambda: now[0]))
    watched = metrics.WatchedReconciler(Stores.open(WorkerSettings(data_dir=tmp_path)))
    # When its loop has gone round, it lives; when it has not for long, it does not, until it goes on
    now[0] += 299
    assert watched.liveness() == (True, {})
    now[0] += 2
    assert watched.liveness() == (False, {"reconciler": "its loop has stood still for 301 s"})
    watched.tick()
    assert watched.liveness()[0]


@pytest.mark.parametrize(("ready", "code"), [(True, 200), (False, 503)])
def test_ready_tells_each_part(ready: bool, code: int) -> None:
    with answering(Machine(ready)) as port:
        found = get(port, "/readyz")
        assert found[0] == code and found[1]["worker on cpu"] == "starting"
        assert get(port, "/healthz")[0] == 200
        assert get(port, "/etc/passwd")[0] == 404


def test_metrics_are_plain_text_and_say_when_the_database_is_away() -> None:
    with answering(Machine()) as port, urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert b"embedmill_commits_late_total 3.0" in answer.read()
    with answering(Machine(away=True)) as port:
        assert get(port, "/metrics") == (503, {"status": "The database does not answer."})


def test_whoever_connects_and_asks_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_PATIENCE", 0.05)
    with answering(Machine()) as port, socket.create_connection(("127.0.0.1", port), timeout=30) as silent:
        assert silent.recv(1) == b""
    with answering(Machine()) as port, socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        assert slow.recv(1) == b""


def test_an_occupied_port_is_told_with_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(AddressInUse, match=rf"Port {port} .*--port"):
            HealthServer("127.0.0.1", port, Machine())


class SlowMachine(Machine):
    """A machine that is so busy that whoever asks has gone before it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.gone = threading.Event(), threading.Event()
        self.thread: threading.Thread | None = None

    def readiness(self) -> tuple[bool, dict[str, str]]:
        self.thread = threading.current_thread()
        self.asked.set()
        assert self.gone.wait(30)
        return super().readiness()


def test_a_probe_that_has_given_up_leaves_nothing_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    machine = SlowMachine()
    with answering(machine) as port:
        # Given somebody who asked, and hung up while the machine was too busy to answer
        probe = socket.create_connection(("127.0.0.1", port), timeout=30)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        probe.sendall(b"GET /readyz HTTP/1.1\r\n\r\n")
        assert machine.asked.wait(30)
        probe.close()
        # When it answers
        machine.gone.set()
        assert machine.thread is not None
        machine.thread.join(30)
        # Then nobody is told of an error, and who asks next hears
        assert capsys.readouterr().err == ""
        assert get(port, "/healthz")[0] == 200


def test_it_listens_on_ipv6_too() -> None:
    # Given a machine that is watched over IPv6, on all of its addresses
    server = HealthServer("::", 0, Machine())
    server.start()
    # Then it answers there, and on IPv4 as well, and its address can be typed in
    assert get(server.port, "/healthz") == (200, {"status": "alive"})
    assert server.url == f"http://[::]:{server.port}"
    server.close()
