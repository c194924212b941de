"""A failover through Sentinel: the primary dies, messages are sent and taken again, and a mill works on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.queue import Queue
from storage.contract.broker import KEY_PREFIX
from storage.contract.errors import QueueUnavailable
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.hints import Hints
from storage.redisclient import redis_client
from tests.acceptance.shell import until
from tests.faults.forms import KINDS, full, scenario
from tests.faults.recoveries import Recovery
from tests.faults.running import running_mill
from tests.faults.sentinels import PASSWORD, Watched, watched_redis
from tests.worker.taker import BULK, Taker, taking


@pytest.fixture
def watched() -> Iterator[Watched]:
    with watched_redis() as watched:
        yield watched


def send(sender: Queue, chunk: int) -> bool:
    """Send a message; return whether Redis took it."""
    try:
        sender.send([Pointer(new_id(), chunk)], BULK)
    except QueueUnavailable:
        return False
    return True


def test_messages_flow_again_after_the_primary_has_died(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.hints._TIMEOUT", 20.0)
    sender, hints = Queue(watched.url), Hints(watched.url)
    with taking(watched.url, tmp_path / "w") as worker, redis_client(watched.url) as client:
        # Given a worker that takes messages from the primary, by a URL with a password and a database
        until(lambda: send(sender, 0), "the primary to take a message", 90)
        worker.wait(lambda: 0 in worker.notes("ended"))
        assert client.keys(f"{KEY_PREFIX}*") and client.connection_pool.connection_kwargs["db"] == 2
        # When the primary is killed
        watched.primary.kill()
        killed = time.monotonic()
        # Then a message can be sent again
        following = iter(range(1, 100))
        while not send(sender, next(following)):
            assert time.monotonic() - killed < 100, "nobody takes messages"
            time.sleep(0.2)
        sent = time.monotonic() - killed
        # And the same worker takes what comes
        _wait_until_taken(worker, sender, following)
        print(f"sent again after {sent:.1f} s, taken again after {time.monotonic() - killed:.1f} s")
        # And lengths are read and hints are heard from the one that took over
        assert client.llen(KEY_PREFIX + BULK) == 0
        with hints.listen() as listener:
            hints.publish(["a-job"])
            assert listener.wait("a-job", 60)
        # And no password is in the log
        assert PASSWORD not in worker.log() and "p%40ss" not in worker.log()
    sender.close()
    hints.close()


def _wait_until_taken(worker: Taker, sender: Queue, following: Iterator[int]) -> None:
    """Send until one is taken, as the reconciler does: what lay in the old primary alone is lost."""
    before = len(worker.notes("ended"))
    deadline = time.monotonic() + 90
    while len(worker.notes("ended")) == before:
        assert time.monotonic() < deadline, worker.log()[-3000:]
        send(sender, next(following))
        time.sleep(0.5)


@full
@scenario("F15")
@pytest.mark.parametrize("kind", KINDS)
def test_a_mill_works_on_after_a_failover_and_sends_again_what_may_be_lost(watched: Watched, kind: str) -> None:
    # Given a mill whose Redis is looked after by Sentinels, all its threads busy and messages waiting
    with running_mill(kind, lease=10, pause=1.5, EMBEDMILL_REDIS_URL=watched.url) as mill:
        mill.start_producer(360, length=2_000)
        waiting = "SELECT count(*) FROM chunks WHERE state = 'dispatched'"
        mill.wait_for(lambda: mill.commits() > 1 and mill.sql(waiting)[0][0] > 2, what="messages that wait")
        # When the primary is killed
        watched.primary.kill()
        failover = Recovery("failover", [])
        failover.end(mill.plain)
        killed = time.monotonic()
        # Then what waits is sent again to the one that took over: nobody knows what reached it
        mill.wait_counted("messages_resent", timeout=90)
        mill.record("F15", "seconds until messages were sent again", time.monotonic() - killed)
        # And chunks are claimed and written again
        mill.wait_for(lambda: failover.look(mill.plain) or failover.resumed, what="a chunk claimed since to be written")
        mill.record("F15", "seconds until work went on", time.monotonic() - killed)
        mill.wait_complete(180)
        assert not any(PASSWORD in log.read_text() for log in mill.folder.glob("*.log"))
