"""A call is answered in its time, also where a server that hangs holds up whatever is to be done for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from producer.api import calls
from producer.api.settings import ApiSettings
from producer.api.waiting import Waiting
from storage.hints import Hints
from storage.stores import Stores
from tests.faults.servers import RedisMachine
from tests.service.serving import Served, awaited, serving
from tests.storage.builders import CARD, serve, submit

#: Longest wait for what must come at once, in seconds.
_LONGEST = 60


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisMachine]:
    """A Redis of the test's own."""
    machine = RedisMachine(tmp_path)
    machine.start()
    yield machine
    machine.kill()


@contextmanager
def _held_up(loop: asyncio.AbstractEventLoop) -> Iterator[ThreadPoolExecutor]:
    """Let an event loop have a single thread, which is held up until the end of the block."""
    let_go, held = threading.Event(), threading.Event()
    threads = ThreadPoolExecutor(1)
    threads.submit(lambda: (held.set(), let_go.wait()))
    held.wait()
    loop.call_soon_threadsafe(loop.set_default_executor, threads)
    try:
        yield threads
    finally:
        let_go.set()


def _call(served: Served, _: int = 0) -> tuple[int, str]:
    answer = httpx.post(f"{served.url}/v1/embeddings", json={"input": "rye"}, timeout=_LONGEST)
    return answer.status_code, answer.json()["error"]["code"]


def test_of_many_calls_at_once_each_hears_that_redis_hangs(
    tmp_path: Path, redis: RedisMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a Redis that hangs, and more calls than are sent to one worker at a time, which may wait for long
    monkeypatch.setattr(calls, "_UNSENT", 0.5)
    settings = ApiSettings.load(data_dir=tmp_path, redis_url=redis.url, model=CARD.name, call_timeout=60)
    with serving(settings) as served, ThreadPoolExecutor(24) as callers:
        serve(served.service.stores)
        redis.freeze()
        # When they come, then those hear of it too whose messages were never tried to be sent
        assert set(callers.map(lambda one: _call(served, one), range(24))) == {(503, "queue_unavailable")}
        redis.thaw()


def test_a_call_is_answered_in_time_though_no_thread_is_free_to_submit_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service whose threads are all held up
    monkeypatch.setattr(calls, "_GRACE", 0.2)
    with serving(ApiSettings.load(data_dir=tmp_path, model=CARD.name, call_timeout=0.3)) as served:
        serve(served.service.stores)
        with _held_up(served.loop) as threads:
            # When somebody calls, then he is told that it was not done in time
            assert _call(served) == (504, "wait_timeout")
        # And what he wanted is not submitted later
        threads.submit(int).result()
        with served.service.stores.database.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar_one() == 0


def test_the_first_look_is_part_of_a_wait(stores: Stores, tmp_path: Path) -> None:
    serve(stores)
    job_id = submit(stores)
    waiting = Waiting(stores.jobs, Hints(f"unix://{tmp_path}/nowhere.sock"))

    async def wait() -> bool:
        with _held_up(asyncio.get_running_loop()):
            await asyncio.sleep(0)
            async with asyncio.timeout(_LONGEST):
                return await waiting.until_ended(job_id, 0.1)

    # Given no thread to look in, then a wait is over all the same
    assert awaited(wait()) is False
