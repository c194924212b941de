"""Redis killed, emptied, paused, full, evicting, or behind a network that misbehaves, in the midst of a job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.faults.bent import hold_at_work
from tests.faults.forms import FULL, KINDS, full, scenario
from tests.faults.mill import Mill
from tests.faults.rawqueue import RawQueue
from tests.faults.running import running_mill

#: How long Redis is away, in seconds.
AWAY = 30.0 if FULL else 3.0

#: How long the encoder takes for a text, in seconds, so that a fault meets a job in its midst.
PACE = "0.01"


def at_work(mill: Mill, count: int = 700) -> str:
    """Submit a job of some seconds; return its id once it is in its midst and messages of it wait."""
    job, before = mill.submit(count, length=2_000), mill.commits()
    mill.wait_for(lambda: mill.commits() > before + 2 and messages_wait(mill), what="a job in its midst")
    return job


def messages_wait(mill: Mill) -> bool:
    return len(RawQueue(mill.redis).entries()) >= 3


def evicted(mill: Mill) -> int:
    return int(mill.redis.cli("INFO", "stats")["evicted_keys"])


@contextmanager
def configured(mill: Mill, name: str, value: str) -> Iterator[None]:
    """Let Redis have another setting meanwhile."""
    before = mill.redis.cli("CONFIG", "GET", name)[name.encode()]
    mill.redis.cli("CONFIG", "SET", name, value)
    try:
        yield
    finally:
        mill.redis.cli("CONFIG", "SET", name, before)


def settle(mill: Mill) -> None:
    mill.wait_complete()
    mill.judge().assert_clean()


@pytest.fixture(scope="module", params=KINDS)
def mill(request: pytest.FixtureRequest) -> Iterator[Mill]:
    with running_mill(request.param, redis_keeps_data=False, FAULTS_PAUSE_PER_TEXT=PACE) as mill:
        yield mill


@scenario("F8")
def test_a_redis_that_is_killed_and_comes_back_empty_costs_a_pause_alone(mill: Mill) -> None:
    # Given a job in its midst
    _, held = hold_at_work(mill, 700, partial(messages_wait, mill))
    before, done, workers = mill.counters(), mill.commits(), mill.worker_pids()
    # When Redis is killed, and has kept nothing
    mill.redis.kill()
    for pid in held:
        mill.thaw(pid)
    # Then what the worker has in hand is committed, and submitting goes on
    mill.wait_for(lambda: mill.commits() > done, what="work in hand to be committed")
    mill.submit(50, length=2_000)
    time.sleep(AWAY)
    # And when Redis is back, all is sent again and done
    mill.redis.start(empty=True)
    mill.record("F8", "seconds from Redis being back until work went on", mill.seconds_until_progress())
    settle(mill)
    mill.wait_counted("messages_resent", before.get("messages_resent", 0))
    assert mill.worker_pids() == workers


@scenario("F9")
@pytest.mark.parametrize(
    "what",
    [
        "everything",
        "the messages",
        pytest.param("what Celery has not acknowledged", marks=full),
        pytest.param("what binds the queues", marks=full),
    ],
)
def test_keys_that_vanish_from_redis_lose_nothing(mill: Mill, what: str) -> None:
    if what == "what binds the queues":
        # A worker writes it when it starts, and never again: whoever emptied this Redis before has taken it.
        mill.stop_supervisor()
        mill.start_supervisor()
        mill.wait_for(lambda: mill.ready_workers() == 1, what="the worker to be ready")
    # Given a job in its midst
    _, held = hold_at_work(mill, 300, partial(messages_wait, mill))
    before = mill.counters()
    # When keys vanish
    patterns = {
        "the messages": RawQueue(mill.redis).key,
        "what Celery has not acknowledged": "embedmill:*unacked*",
        "what binds the queues": "embedmill:_kombu.binding*",
    }
    if what == "everything":
        mill.redis.cli("FLUSHALL")
    else:
        script = (
            "local n = 0 for _, k in ipairs(redis.call('KEYS', ARGV[1])) do n = n + redis.call('DEL', k) end return n"
        )
        vanished = mill.redis.cli("EVAL", script, 0, patterns[what])
        # What Celery has not acknowledged is kept nowhere: the lease says who has a chunk.
        assert (vanished > 0) == (what != "what Celery has not acknowledged")
    for pid in held:
        mill.thaw(pid)
    began = time.monotonic()
    # Then what was lost is sent again, and all is done
    if what in ("everything", "the messages"):
        mill.wait_counted("messages_resent", before.get("messages_resent", 0))
        mill.record("F9", "seconds until lost messages were sent again", time.monotonic() - began)
    mill.seconds_until_progress()
    settle(mill)


@full
@scenario("F10")
def test_a_redis_that_is_paused_stops_no_submission_and_ends_no_worker(mill: Mill) -> None:
    # Given a job in its midst
    at_work(mill)
    workers = mill.worker_pids()
    # When Redis answers nothing for a minute
    mill.redis.freeze()
    began = time.monotonic()
    mill.submit(50, length=2_000)
    mill.record("F10", "seconds to submit while Redis was paused", time.monotonic() - began)
    time.sleep(60 - (time.monotonic() - began))
    waiting = mill.open_jobs()
    mill.redis.thaw()
    # Then work had come to rest, and goes on when it answers again
    mill.record("F10", "seconds from Redis going on until work went on", mill.seconds_until_progress())
    settle(mill)
    assert waiting == 2
    assert mill.worker_pids() == workers


@full
@scenario("F13")
def test_a_redis_without_memory_is_waited_for(mill: Mill) -> None:
    # Given a job in its midst
    at_work(mill)
    workers = mill.worker_pids()
    # When Redis refuses whatever needs memory
    with configured(mill, "maxmemory", "1mb"):
        mill.submit(50, length=2_000)
        time.sleep(15)
        # Then work comes to rest
        assert mill.redis.cli("INFO", "errorstats")["errorstat_OOM"]["count"] > 0
        assert mill.open_jobs() == 2
    # And goes on after relief, with the same workers
    mill.record("F13", "seconds from relief until work went on", mill.seconds_until_progress())
    settle(mill)
    assert mill.worker_pids() == workers


@full
@scenario("F14")
def test_a_redis_that_evicts_messages_loses_nothing(mill: Mill) -> None:
    # Given a Redis that evicts what it likes, and a job in its midst
    before, gone = mill.counters().get("messages_resent", 0), evicted(mill)
    with configured(mill, "maxmemory-policy", "allkeys-lru"):
        mill.stop_supervisor()
        mill.start_supervisor()
        mill.wait_for(lambda: mill.ready_workers() == 1, what="the worker to be ready")
        at_work(mill)
        # Then the operator is told
        mill.wait_for(lambda: "Redis throws messages away when it is full" in mill.tails(10_000), what="the warning")
        # When messages of it are evicted again and again
        while mill.counters().get("messages_resent", 0) == before:
            assert mill.open_jobs(), "the job has ended without the loss of a message"
            with configured(mill, "maxmemory", "1mb"):
                mill.redis.cli("CLIENT", "LIST")
            time.sleep(1)
        # Then the job is done nevertheless
        settle(mill)
    assert evicted(mill) > gone


@full
@scenario("F11")
@pytest.mark.parametrize("kind", KINDS)
def test_connections_that_swallow_everything_are_given_up(kind: str) -> None:
    with running_mill(kind, proxy_redis=True, FAULTS_PAUSE_PER_TEXT=PACE) as mill:
        assert mill.redis_proxy is not None
        # Given a job in its midst, so long that it outlasts the waiting below
        at_work(mill, 1_500)
        # When nothing that was connected hears anything any more, though every new connection would be answered
        mill.redis_proxy.hole(existing=True, new=False)
        began = time.monotonic()
        mill.submit(50, length=2_000)
        # Then messages are taken again, when those in hand have long been answered, and all is done
        time.sleep(6)
        taken = mill.sql("SELECT sum(claims) FROM chunks")[0][0]
        mill.wait_for(lambda: RawQueue(mill.redis).readers() > 0, timeout=120, what="somebody who takes messages")
        mill.record("F11", "seconds until messages were waited for again", time.monotonic() - began)
        mill.wait_for(lambda: mill.sql("SELECT sum(claims) FROM chunks")[0][0] > taken, timeout=120, what="a claim")
        mill.record("F11", "seconds until a chunk was claimed again", time.monotonic() - began)
        settle(mill)
        assert mill.redis_proxy.swallowed > 0


@full
@scenario("F12")
@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_network_to_redis_costs_time_alone(kind: str) -> None:
    with running_mill(kind, proxy_redis=True, FAULTS_PAUSE_PER_TEXT=PACE) as mill:
        assert mill.redis_proxy is not None
        # Given how long a job takes
        began = time.monotonic()
        mill.submit(500, length=2_000)
        mill.wait_complete()
        plain = time.monotonic() - began
        # When every block takes 50 ms, then work goes on about as fast
        mill.redis_proxy.delay = 0.05
        began = time.monotonic()
        mill.submit(500, length=2_000)
        mill.wait_complete()
        mill.record("F12", "throughput at 50 ms of delay, share", plain / (time.monotonic() - began))
        late = mill.redis_proxy.late
        assert late > 0
        # And when it is 200 ms, and when connections are reset again and again, and when 1 KB/s passes, it is done too
        mill.redis_proxy.delay = 0.2
        mill.submit(300, length=2_000)
        mill.wait_complete()
        mill.redis_proxy.delay = 0.0
        assert mill.redis_proxy.late > late
        at_work(mill)
        for _ in range(10):
            mill.redis_proxy.reset()
            time.sleep(0.5)
        mill.record("F12", "seconds from the last reset until work went on", mill.seconds_until_progress())
        mill.wait_complete()
        assert mill.redis_proxy.cut >= 10
        late, mill.redis_proxy.rate = mill.redis_proxy.late, 1_024
        mill.submit(200, length=2_000)
        mill.wait_complete()
        assert mill.redis_proxy.late > late
        mill.judge().assert_clean()
