"""The settings of the queue, on a real worker process: what it holds, what it leaves in Redis, what comes first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from producer.queue import Queue
from storage.contract.broker import KEY_PREFIX
from storage.contract.errors import QueueUnavailable
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from tests.servers import running_redis
from tests.worker.taker import BULK, URGENT, taking
from worker.reserve import BULK_THREADS

#: Long enough for a worker to take what it wants, which is several of its waits for a message, in seconds.
SETTLED = 1.5


@pytest.fixture
def own_redis() -> Iterator[str]:
    """URL of a server whose settings a test may change."""
    with running_redis() as url:
        yield url


def send(url: str, queue: str, *chunks: int) -> None:
    job_id = new_id()
    with closing(Queue(url)) as sender:
        sender.send([Pointer(job_id, chunk) for chunk in chunks], queue)


def waiting(client: redis.Redis, queue: str) -> int:
    return int(client.llen(KEY_PREFIX + queue))  # type: ignore[arg-type]


def test_a_worker_holds_no_message_that_it_does_not_work_on_and_takes_urgent_ones_first(
    own_redis: str, tmp_path: Path
) -> None:
    with redis.Redis.from_url(own_redis) as client, taking(own_redis, tmp_path / "w") as worker:
        # Given a worker whose bulk threads are all busy, and more bulk than that
        worker.hold()
        send(own_redis, BULK, *range(12))
        worker.wait(lambda: len(worker.notes("began")) == BULK_THREADS)
        time.sleep(SETTLED)
        assert waiting(client, BULK) == 12 - BULK_THREADS
        # When urgent messages come
        send(own_redis, URGENT, *range(100, 104))
        # Then one of them finds a thread free, and the others wait in Redis, not in the worker
        worker.wait(lambda: 100 in worker.notes("began"))
        time.sleep(SETTLED)
        assert (waiting(client, BULK), waiting(client, URGENT)) == (12 - BULK_THREADS, 3)
        # And they go before the bulk that came earlier
        worker.let_go()
        worker.wait(lambda: len(worker.notes("ended")) == 16)
        following = worker.notes("taken")[BULK_THREADS + 1 :]
        assert following[:3] == [101, 102, 103]
        # And all that Redis was left with is named as an ACL needs it, none of it a copy of a message
        keys = {key.decode() for key in client.scan_iter(count=1000)}
        assert keys and all(key.startswith(KEY_PREFIX) for key in keys)
        assert not [key for key in keys if "unacked" in key]
        channels = {channel.decode() for channel in client.pubsub_channels("*")}
        assert all(channel.startswith(KEY_PREFIX) for channel in channels)


def fill(client: redis.Redis) -> None:
    client.config_set("maxmemory", "1")


def demote(client: redis.Redis) -> None:
    client.replicaof("127.0.0.1", "1")


def mend(client: redis.Redis) -> None:
    client.config_set("maxmemory", "0")
    client.replicaof("NO", "ONE")


def refusals(client: redis.Redis, word: str) -> int:
    """Return how often Redis has refused a command with a word."""
    told: Any = client.info("errorstats")
    return int(told.get(f"errorstat_{word}", {}).get("count", 0))


def test_a_worker_lives_through_a_redis_that_is_read_only(own_redis: str, tmp_path: Path) -> None:
    with redis.Redis.from_url(own_redis) as client, taking(own_redis, tmp_path / "w") as worker:
        # Given a worker at work
        worker.hold()
        send(own_redis, BULK, *range(20))
        worker.wait(lambda: len(worker.notes("began")) == BULK_THREADS)
        # When Redis refuses to write, and so to hand out, and the worker ends its tasks and asks for more
        demote(client)
        worker.let_go()
        worker.wait(lambda: refusals(client, "READONLY") > 0)
        time.sleep(SETTLED)
        assert len(worker.notes("ended")) < 20
        mend(client)
        # Then the same process takes the rest when it is over
        worker.wait(lambda: sorted(worker.notes("ended")) == list(range(20)))


def test_a_worker_takes_what_there_is_from_a_redis_that_is_out_of_memory(own_redis: str, tmp_path: Path) -> None:
    with redis.Redis.from_url(own_redis) as client, taking(own_redis, tmp_path / "w") as worker:
        # Given a worker at work
        worker.hold()
        send(own_redis, BULK, *range(20))
        worker.wait(lambda: len(worker.notes("began")) == BULK_THREADS)
        # When Redis has no memory left, so that senders are refused
        fill(client)
        with pytest.raises(QueueUnavailable):
            send(own_redis, BULK, 20)
        assert refusals(client, "OOM") > 0
        # Then the same process takes all the rest, which makes room
        worker.let_go()
        worker.wait(lambda: sorted(worker.notes("ended")) == list(range(20)))
        # And what is sent once there is room
        mend(client)
        send(own_redis, BULK, 20)
        worker.wait(lambda: worker.notes("ended")[20:] == [20])


@pytest.mark.parametrize(("refuse", "word"), [(fill, "OOM"), (demote, "READONLY")], ids=["no memory", "read-only"])
def test_a_worker_starts_beside_a_redis_that_refuses_to_write(
    own_redis: str, tmp_path: Path, refuse: Callable[[redis.Redis], None], word: str
) -> None:
    with redis.Redis.from_url(own_redis) as client:
        send(own_redis, BULK, *range(3))
        refuse(client)
        with taking(own_redis, tmp_path / "w") as worker:
            # Given a worker that is refused at its first word
            worker.wait(lambda: "Trying again" in worker.log() or "Connection to broker lost" in worker.log())
            assert refusals(client, word) > 0
            # When it is over, the same process takes what waits
            mend(client)
            worker.wait(lambda: sorted(worker.notes("ended")) == [0, 1, 2])
