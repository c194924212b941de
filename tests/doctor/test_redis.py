"""What the doctor says of a Redis, each ailment given to a real server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from storage.checkups import onredis
from storage.checkups.check import Verdict
from storage.contract.settings import Settings
from tests.doctor.looking import amiss, findings, outcomes
from tests.faults.proxy import Proxy
from tests.faults.sentinels import SERVICE, watched_redis
from tests.faults.servers import RedisMachine
from tests.servers import short_folder
from tests.stack import free_port


@pytest.fixture(scope="module")
def machine() -> Iterator[RedisMachine]:
    with short_folder() as folder:
        machine = RedisMachine(folder)
        machine.start()
        yield machine
        machine.kill()


def settings(url: str) -> Settings:
    return Settings(redis_url=url, database_url="sqlite:////nowhere")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server that answers answer however late; a test that waits for silence gives it less."""
    monkeypatch.setattr(onredis, "_TIMEOUT", 50.0)


@pytest.fixture
def change(machine: RedisMachine) -> Iterator[Any]:
    """Changes the server's configuration for one test."""
    before: dict[bytes, bytes] = {}

    def change(name: str, value: str) -> None:
        before.update(machine.cli("CONFIG", "GET", name))
        machine.cli("CONFIG", "SET", name, value)

    yield change
    for name, value in before.items():
        machine.cli("CONFIG", "SET", name, value)


def test_all_is_well_with_a_server_as_it_should_be(machine: RedisMachine) -> None:
    assert amiss(onredis.area(settings(machine.url))) == {}
    found = outcomes(onredis.area(settings(machine.url)))
    assert "Redis" in found["version"].found and "append-only" in found["persistence"].found
    # And nothing is left behind
    assert machine.cli("KEYS", "embedmill:doctor*") == []


@pytest.mark.parametrize(
    ("changes", "check", "verdict", "remedy"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, "eviction", Verdict.WARNING, "maxmemory-policy noeviction"),
        ({"maxmemory": "{four fifths}"}, "memory", Verdict.WARNING, "Raise maxmemory"),
        ({"appendonly": "no", "save": ""}, "persistence", Verdict.WARNING, "appendonly yes"),
        ({"maxclients": "10"}, "connections", Verdict.WARNING, "Raise maxclients"),
    ],
)
def test_each_danger_is_told_with_what_to_do(
    machine: RedisMachine, change: Any, changes: dict[str, str], check: str, verdict: Verdict, remedy: str
) -> None:
    used = redis.Redis(unix_socket_path=str(machine.socket)).info("memory")["used_memory"]
    for name, value in changes.items():
        change(name, value.replace("{four fifths}", str(used * 5 // 4)))
    with ExitStack() as crowd:
        for _ in range(7 if check == "connections" else 0):
            crowd.enter_context(redis.Redis(unix_socket_path=str(machine.socket))).ping()
        found = amiss(onredis.area(settings(machine.url)))
    assert set(found) == {check}
    assert found[check].verdict is verdict and remedy in str(found[check].remedy)


def test_a_user_who_lacks_a_command_is_told_which(machine: RedisMachine) -> None:
    machine.cli("ACL", "SETUSER", "miller", "on", ">flour", "allkeys", "allchannels", "+@all", "-brpop", "-publish")
    url = f"redis://miller:flour@127.0.0.1:{machine.port}/0"
    found = amiss(onredis.area(settings(url)))
    assert set(found) == {"rights"} and found["rights"].verdict is Verdict.WRONG
    assert "grant +brpop +publish" in str(found["rights"].remedy)
    # When granted, then all is well
    machine.cli("ACL", "SETUSER", "miller", "+brpop", "+publish")
    assert amiss(onredis.area(settings(url))) == {}
    # And the password is shown to nobody
    reached = outcomes(onredis.area(settings(url)))["reachable"].found
    assert "miller:***@" in reached and "flour" not in reached


def test_a_user_who_may_not_look_is_told_so_and_the_rest_is_checked(machine: RedisMachine) -> None:
    machine.cli("ACL", "SETUSER", "blind", "on", "nopass", "~*", "&*", "+@all", "-info")
    found = amiss(onredis.area(settings(f"redis://blind:x@127.0.0.1:{machine.port}/0")))
    assert found["memory"].verdict is Verdict.NOT_CHECKED and "+info" in found["memory"].found
    assert found["rights"].verdict is Verdict.WRONG and "+info" in str(found["rights"].remedy)


@pytest.mark.parametrize("where", ["nobody listens", "wrong password", "no socket"])
def test_one_that_cannot_be_used_is_told_of_and_nothing_else_is_checked(machine: RedisMachine, where: str) -> None:
    url = {
        "nobody listens": f"redis://:secret@127.0.0.1:{free_port()}/0",
        "wrong password": f"redis://miller:wrong@127.0.0.1:{machine.port}/0",
        "no socket": "unix:///nowhere/redis.sock",
    }[where]
    first, *others = findings(onredis.area(settings(url)))
    assert first.outcome.verdict is Verdict.WRONG and first.unreachable
    assert "secret" not in str(first.outcome) and "wrong@" not in str(first.outcome)
    assert {other.outcome.verdict for other in others} == {Verdict.NOT_CHECKED}


def test_an_embedded_one_that_does_not_run_is_started_by_up(tmp_path: Any) -> None:
    first = findings(onredis.area(Settings(data_dir=tmp_path)))[0]
    assert first.outcome.verdict is Verdict.WRONG and "embedmill up" in str(first.outcome.remedy)


def test_a_black_hole_holds_nobody_up(machine: RedisMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onredis, "_TIMEOUT", 3.0)
    proxy = Proxy(machine.port)
    try:
        proxy.hole()
        first, *others = findings(onredis.area(settings(f"redis://127.0.0.1:{proxy.port}/0")))
    finally:
        proxy.close()
    assert first.outcome.verdict is Verdict.WRONG and first.unreachable
    assert {other.outcome.verdict for other in others} == {Verdict.NOT_CHECKED}


def test_one_that_falls_silent_in_the_middle_is_told_of(machine: RedisMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a server that hangs once its version was looked at
    monkeypatch.setattr(onredis, "_TIMEOUT", 10.0)
    pid = int(redis.Redis(unix_socket_path=str(machine.socket)).info("server")["process_id"])

    def hang(server: onredis.RedisServer) -> Any:
        os.kill(pid, signal.SIGSTOP)
        return onredis.version(server)

    monkeypatch.setitem(onredis.CHECKS, "version", hang)
    try:
        found = {finding.check: finding for finding in findings(onredis.area(settings(machine.url)))}
    finally:
        os.kill(pid, signal.SIGCONT)
    # Then what was told before stands, the first that needs it tells of it, and the rest is left
    assert found["memory"].outcome.verdict is Verdict.OK
    assert found["rights"].outcome.verdict is Verdict.WRONG and found["rights"].unreachable
    assert found["clock"].outcome.verdict is Verdict.NOT_CHECKED


def test_a_replica_is_told_of(machine: RedisMachine) -> None:
    machine.cli("REPLICAOF", "127.0.0.1", "1")
    try:
        found = amiss(onredis.area(settings(machine.url)))
    finally:
        machine.cli("REPLICAOF", "NO", "ONE")
    assert found["role"].verdict is Verdict.WRONG and "primary" in str(found["role"].remedy)


def test_sentinels_that_are_away_are_named() -> None:
    with watched_redis() as watched:
        assert outcomes(onredis.area(settings(watched.url)))["sentinels"].verdict is Verdict.OK
        dead = f"127.0.0.1:{free_port()}"
        found = amiss(onredis.area(settings(watched.url.replace(f"/{SERVICE}", f",{dead}/{SERVICE}"))))
    assert found["sentinels"].verdict is Verdict.WARNING and dead in found["sentinels"].found
