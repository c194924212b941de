"""A Redis over TLS whose users may do what they need and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from redis.exceptions import AuthenticationError

from embedmill import Client
from producer.queue import Queue
from storage.checkups import onredis
from storage.checkups.check import Outcome, Verdict
from storage.checkups.redisrights import SENT, missing_rights
from storage.contract.errors import QueueUnavailable
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.contract.settings import Settings
from storage.redisclient import redis_client
from tests.doctor.looking import outcomes
from tests.faults import producer
from tests.faults.encoder import CARD
from tests.faults.ledger import Line
from tests.faults.running import running_mill
from tests.machines.authority import Authority
from tests.machines.conftest import USERS, redis_url, users
from tests.machines.secureredis import SecureRedis, secure_redis
from tests.worker.taker import BULK
from worker.brokercheck import findings

WORKER, PRODUCER = "embedmill-worker", "embedmill-producer"

#: What Celery sends now and then only: when it looks for bindings that are overdue.
SELDOM = {"+exists", "+zrem"}


def test_every_part_works_over_tls_with_the_advised_rights(guarded_redis: SecureRedis, authority: Authority) -> None:
    told = {name: redis_url(guarded_redis, name, authority) for name in (WORKER, PRODUCER)}
    # Given a mill whose supervisor, reconciler and worker are one user
    with running_mill("sqlite", EMBEDMILL_REDIS_URL=told[WORKER]) as mill:
        # When another user submits, in a process of its own and in one that waits for the job
        mill.environment["EMBEDMILL_REDIS_URL"] = told[PRODUCER]
        mill.start_producer(200, length=2_000)
        with Client(database_url=mill.database, redis_url=told[PRODUCER], model=CARD.name) as client:
            job = producer.submit(client, mill.ledger, Line("waited-for", 50, length=2_000))
            assert client.job(job).wait(timeout=90).state == "completed"
        mill.wait_for(mill.ledger.accepted)
        mill.wait_complete()
        # And somebody inspects the workers
        ((worker,),) = mill.sql("SELECT CAST(id AS TEXT) FROM workers")
        node = f"cpu0-{worker[-6:]}@{socket.gethostname()}"
        ping = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "worker.app", "inspect", "ping", "--timeout", "60", "-d", node],
            env={"PATH": os.environ["PATH"], "EMBEDMILL_REDIS_URL": told[WORKER]},
            cwd=USERS.parents[2],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ping.returncode == 0 and "pong" in ping.stdout, ping.stdout + ping.stderr
        # Then nothing was refused
        assert guarded_redis.denied() == []
        # And no password is in a log
        for password, _ in users(USERS.read_text()).values():
            assert password not in mill.tails(100_000)
    # And nobody may do what nobody did
    assert guarded_redis.denied() == []
    used = {name for name, facts in guarded_redis.operator.info("commandstats").items() if facts["calls"]}
    granted = {right for _, rights in users(USERS.read_text()).values() for right in rights if right[0] == "+"}
    assert {right for right in granted if f"cmdstat_{right[1:]}" not in used} <= SELDOM


def test_the_advised_rights_are_those_a_worker_asks_for() -> None:
    # Given a user without any
    nothing = f"user {WORKER} on >wheat -@all"
    with secure_redis(None, acl=nothing) as server:
        with redis_client(f"redis://{WORKER}:wheat@127.0.0.1:{server.port}/0") as client:
            # Then each is named
            _, rights = users(USERS.read_text())[WORKER]
            commands = {right for right in rights if right.startswith("+")}
            assert set(missing_rights(client)) == {"+multi", "+exec"}
            server.operator.execute_command("ACL", "SETUSER", WORKER, "+multi", "+exec")
            assert set(missing_rights(client)) == commands - {"+multi", "+exec"}
            # And then the places
            server.operator.execute_command("ACL", "SETUSER", WORKER, *commands)
            assert set(missing_rights(client)) == {right for right in rights if right[0] in "~&"}
            server.operator.execute_command("ACL", "SETUSER", WORKER, *rights)
            assert missing_rights(client) == []
        # And asking has left nothing behind
        assert server.operator.keys() == []


def test_the_doctor_finds_out_whose_user_it_is_and_says_so() -> None:
    with secure_redis(None, acl=USERS.read_text()) as server:

        def rights(user: str, side: str | None = None) -> Outcome:
            password, _ = users(USERS.read_text())[user]
            url = f"redis://{user}:{password}@127.0.0.1:{server.port}/0"
            settings = Settings(redis_url=url, database_url="sqlite:////nowhere")
            return outcomes(onredis.area(settings, side))["rights"]

        # Given the advised users, each has what it needs
        assert "all that a worker needs" in rights(WORKER).found
        found = rights(PRODUCER)
        assert found.verdict is Verdict.OK and "all that a producer needs" in found.found
        # When a producer's is asked for as a worker's, then all that is missing is named
        asked = rights(PRODUCER, "worker")
        assert asked.verdict is Verdict.WRONG and "as a worker's" in asked.found and "+brpop" in str(asked.remedy)
        # And a worker's that lacks a right is not taken for a producer's
        server.operator.execute_command("ACL", "SETUSER", WORKER, "-brpop")
        server.operator.execute_command("ACL", "SETUSER", PRODUCER, "-subscribe")
        lacking = rights(WORKER)
        assert "as a worker's" in lacking.found and "grant +brpop " in str(lacking.remedy)
        lacking = rights(PRODUCER)
        assert "as a producer's" in lacking.found and "grant +subscribe " in str(lacking.remedy)


def test_the_advised_rights_are_those_that_are_asked_for_of_a_producer() -> None:
    _, rights = users(USERS.read_text())[PRODUCER]
    sent = {f"+{words[0].lower()}" for words in SENT["producer"]} | {"+multi", "+exec"}
    assert sent == {right for right in rights if right.startswith("+")}


@pytest.mark.parametrize(
    ("gone", "told"),
    [("-brpop", "grant +brpop "), ("resetchannels", "grant &embedmill:finished &embedmill:/0.celery.pidbox "),
     ("-info", "grant +info")],
)  # fmt: skip
def test_a_right_that_a_worker_lacks_is_told_by_its_name(gone: str, told: str) -> None:
    with secure_redis(None, acl=USERS.read_text()) as server:
        server.operator.execute_command("ACL", "SETUSER", WORKER, gone)
        password, _ = users(USERS.read_text())[WORKER]
        with redis_client(f"redis://{WORKER}:{password}@127.0.0.1:{server.port}/0", timeout=20) as client:
            (finding,) = findings(client)
            assert told in finding


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["-lpush"], "does not let this user send messages: .*'lpush'"),
        (["resetkeys", "~other:*"], "does not let this user send messages: .*key"),
        (["resetpass", ">another"], "does not know this user, or the password is another"),
        (["off"], "does not know this user, or the password is another"),
    ],
)
@pytest.mark.usefixtures("patient_senders")
def test_what_a_producer_may_not_do_is_told_by_its_name(change: list[str], told: str) -> None:
    with secure_redis(None, acl=USERS.read_text()) as server:
        server.operator.execute_command("ACL", "SETUSER", PRODUCER, *change)
        password, _ = users(USERS.read_text())[PRODUCER]
        queue = Queue(f"redis://{PRODUCER}:{password}@127.0.0.1:{server.port}/0")
        with pytest.raises(QueueUnavailable, match=told):
            queue.send([Pointer(new_id(), 0)], BULK)
        queue.close()


def test_a_producer_may_neither_take_messages_nor_command_workers_nor_look_around(
    guarded_redis: SecureRedis, authority: Authority
) -> None:
    with redis_client(redis_url(guarded_redis, PRODUCER, authority)) as client:
        for words in (
            ("BRPOP", "embedmill:queue", "1"),
            ("PUBLISH", "embedmill:/0.celery.pidbox", "shutdown"),
            ("KEYS", "*"),
            ("FLUSHALL",),
            ("CONFIG", "GET", "*"),
            ("LPUSH", "somebody-elses", "1"),
            ("EVAL", "return 1", "0"),
        ):
            with pytest.raises(Exception, match=r"(?i)no permissions|NOPERM"):
                client.execute_command(*words)
    guarded_redis.denied()


def test_the_example_is_a_file_that_redis_reads(tmp_path: Path) -> None:
    # It was read at the start of the server; and whoever logs in by no name is let in by nobody
    with secure_redis(None, acl=USERS.read_text()) as server:
        with redis_client(f"redis://127.0.0.1:{server.port}/0") as client, pytest.raises(Exception, match=r"(?i)auth"):
            client.ping()
        assert set(server.operator.execute_command("ACL", "USERS")) == {
            b"default",
            b"operator",
            *map(str.encode, users(USERS.read_text())),
        }


def test_what_was_sent_in_a_transaction_is_there_after_a_restart_of_redis() -> None:
    # Given a Redis with the advised users, and messages of a transaction in its append-only file
    with secure_redis(None, acl=USERS.read_text(), enable_debug_command="local") as server:
        urls = {
            name: f"redis://{name}:{word}@127.0.0.1:{server.port}/0"
            for name, (word, _) in users(USERS.read_text()).items()
        }
        with redis_client(urls[WORKER]) as worker, worker.pipeline(transaction=True) as together:
            together.lpush("embedmill:mill", "one", "two").zadd("embedmill:when", {"mill": 1})
            together.sadd("embedmill:who", "miller", "baker").srem("embedmill:who", "baker").execute()
        # When Redis reads the file as it does at its start, in the name of a user who is off
        server.operator.execute_command("DEBUG", "LOADAOF")
        # Then all of it is there
        assert server.operator.lrange("embedmill:mill", 0, -1) == [b"two", b"one"]
        assert server.operator.zscore("embedmill:when", "mill") == 1
        assert server.operator.smembers("embedmill:who") == {b"miller"}
        assert "NOPERM" not in (server.folder / "redis.log").read_text()
        # And nobody is let in by that name
        with pytest.raises(AuthenticationError), redis_client(f"redis://127.0.0.1:{server.port}/0") as nobody:
            nobody.lpush("embedmill:mill", "three")
