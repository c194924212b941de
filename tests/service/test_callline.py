"""The line of calls: who cannot be served in time is told so at once, and not after a minute."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from producer.api.callline import Line, Place
from producer.api.settings import ApiSettings
from storage.contract.errors import Overloaded
from storage.contract.messages import Pointer
from storage.stores import Stores
from storage.tables import ChunkRow
from tests.patience import patiently
from tests.servers import running_redis
from tests.service.serving import Served, awaited, serving
from tests.storage.builders import ALONE, CARD, result, serve_for_long


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def crowd(line: Line, clock: Clock, count: int, seconds_each: float = 1.0, work: float = 100.0) -> list[Place]:
    """Let some come, and as many more be served before them, each in so many seconds; return those who still wait."""
    served = [line.join(work) for _ in range(8)]
    waiting = [line.join(work) for _ in range(count)]
    for place in served:
        clock.now += seconds_each
        line.leave(place, done=True)
    return waiting


def test_nobody_is_sent_away_before_the_pace_is_known_or_while_few_wait() -> None:
    async def scenario() -> None:
        clock = Clock()
        line = Line(60, clock)
        many = [line.join(1e9) for _ in range(500)]
        assert line.pace is None and not any(place.refused.done() for place in many)
        for place in many:
            line.leave(place, done=False)
        # Nor once it is known, when hardly anybody is there
        for place in crowd(line, clock, 10):
            line.leave(place, done=False)
        assert line.pace is not None and line.join(1e9)

    awaited(scenario())


def test_whoever_comes_to_a_line_that_is_too_long_is_told_when_to_come_again() -> None:
    async def scenario() -> None:
        # Given workers that do a call a second, and forty who wait, where a minute is the longest wait
        clock = Clock()
        line = Line(60, clock)
        waiting = crowd(line, clock, 40)
        assert line.pace == pytest.approx(100, rel=0.01) and not any(place.refused.done() for place in waiting)
        # When more come, then so many are let in as four fifths of the time serve
        for _ in range(8):
            waiting.append(line.join(100))
        with pytest.raises(Overloaded, match="48 calls are waiting") as refused:
            line.join(100)
        assert refused.value.retry_after == pytest.approx(1, abs=0.5)
        # And a large one is told to wait the longer
        with pytest.raises(Overloaded) as refused:
            line.join(2000)
        assert refused.value.retry_after == pytest.approx(20, abs=1)
        # When some were served, there is room again
        for place in waiting[:5]:
            clock.now += 1
            line.leave(place, done=True)
        assert [line.join(100) for _ in range(5)]

    awaited(scenario())


def test_those_at_the_end_are_sent_away_once_it_shows_that_they_will_not_be_served() -> None:
    async def scenario() -> None:
        # Given a hundred who came before anything was known, of workers that do one in two seconds
        clock = Clock()
        line = Line(60, clock)
        waiting = crowd(line, clock, 100, seconds_each=2)
        # Then, at the latest with the next look, those are told who would have to wait for more than their minute
        clock.now += 0.6
        line.review()
        told = [place.refused.done() for place in waiting]
        assert told == sorted(told) and 15 <= told.index(True) <= 23
        # And once they have left, the others are served
        for place in waiting[told.index(True) :]:
            line.leave(place, done=False)
        # but for the last ones, whose time may be over a moment too early
        rest = waiting[: told.index(True)]
        while rest:
            clock.now += 2
            line.leave(rest.pop(0), done=True)
            assert not any(place.refused.done() for place in rest[:-2])

    awaited(scenario())


def test_a_worker_that_was_away_for_a_while_is_not_taken_for_a_slow_one() -> None:
    async def scenario() -> None:
        # Given a known pace, when nothing is done for twenty seconds
        clock = Clock()
        line = Line(60, clock)
        waiting = crowd(line, clock, 20, seconds_each=0.1)
        clock.now += 20
        line.leave(waiting.pop(0), done=True)
        # Then those who wait go on waiting, and others are let in
        clock.now += 1
        line.review()
        assert not any(place.refused.done() for place in waiting) and line.join(100)
        # But nobody waits for a worker beyond his time
        clock.now += 39
        line.review()
        assert all(place.refused.done() for place in waiting)

    awaited(scenario())


def test_a_first_batch_that_took_long_sends_nobody_away() -> None:
    async def scenario() -> None:
        # Given a line of two hundred, of which workers do thirty at once after four seconds
        clock = Clock()
        line = Line(60, clock)
        waiting = [line.join(1000) for _ in range(200)]
        clock.now += 4
        for _ in range(30):
            line.leave(waiting.pop(0), done=True)
        # Then that is no pace yet, and nobody is sent away
        clock.now += 1
        line.review()
        assert line.pace is None and not any(place.refused.done() for place in waiting)
        # And once there were more of them, all that was measured counts
        for _ in range(3):
            clock.now += 0.5
            for _ in range(10):
                line.leave(waiting.pop(0), done=True)
        assert line.pace == pytest.approx(60_000 / 6.5, rel=0.15)

    awaited(scenario())


def test_a_pace_of_long_ago_sends_nobody_away() -> None:
    async def scenario() -> None:
        # Given workers that were slow, and a line that was empty for a while
        clock = Clock()
        line = Line(60, clock)
        for place in crowd(line, clock, 10, seconds_each=4):
            line.leave(place, done=True)
        assert line.pace is not None
        clock.now += 20
        # Then whoever comes now is let in
        waiting = [line.join(100) for _ in range(200)]
        assert line.pace is None and not any(place.refused.done() for place in waiting)

    awaited(scenario())


def test_whoever_was_not_served_in_time_hears_whether_others_were() -> None:
    async def scenario() -> None:
        clock = Clock()
        line = Line(60, clock)
        # Given one whose call is not done, and none else's: it is too much for its workers
        alone = line.join(100)
        clock.now += 60
        assert line.overtaken(alone) is None
        # When somebody else's was done meanwhile, then there is too much to do
        line.leave(line.join(100), done=False)
        assert line.overtaken(alone) is None
        other = line.join(100)
        clock.now += 1
        line.leave(other, done=True)
        told = line.overtaken(alone)
        assert told is not None and told.retry_after == 1
        # But what was done before he came says nothing
        clock.now += 1
        assert line.overtaken(line.join(100)) is None

    awaited(scenario())


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A service whose one worker does about two calls a second, and which waits for twenty seconds; Redis is well."""
    monkeypatch.setattr("producer.queue.sender_settings", patiently)
    monkeypatch.setattr("storage.hints._TIMEOUT", 20.0)
    monkeypatch.setattr("producer.api.protocol.HEAD_SECONDS", 60.0)  # whoever calls shares a thread with many others
    with (
        running_redis() as redis_url,
        serving(ApiSettings.load(data_dir=tmp_path, redis_url=redis_url, model=CARD.name, call_timeout=20)) as served,
    ):
        stopping = threading.Event()
        working = threading.Thread(target=work, args=(served.service.stores, stopping))
        working.start()
        yield served
        stopping.set()
        working.join(30)


def work(stores: Stores, stopping: threading.Event) -> None:
    """Do one call after the other, in the order they came."""
    worker = serve_for_long(stores)
    while not stopping.wait(0.4):
        with stores.database.read() as connection:
            open_ones = select(ChunkRow.job_id).where(ChunkRow.state.in_(["pending", "dispatched"]))
            job_id = connection.execute(open_ones.order_by(ChunkRow.job_id).limit(1)).scalar()
        if job_id is not None:
            for claim in stores.leases.claim(Pointer(job_id, 0), worker, CARD.id, ALONE):
                stores.leases.commit([(claim, result(size=1))])


def test_of_more_calls_than_can_be_done_some_are_done_and_the_others_are_told_to_come_again(slow: Served) -> None:
    # Given a service whose worker is alive, and three times as many calls as it does in time
    with slow.http() as http:
        assert http.post("/v1/embeddings", json={"input": "wheat"}).status_code == 200

    async def all_at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=slow.url, timeout=60, limits=httpx.Limits(max_connections=150)) as http:
            asked = (http.post("/v1/embeddings", json={"input": f"wheat {number}"}) for number in range(140))
            return await asyncio.gather(*asked)

    answers = awaited(all_at_once())
    # Then many are done, and all others are told to come again: a worker that did others' calls is there
    counts = Counter(answer.status_code for answer in answers)
    assert set(counts) == {200, 429} and counts[200] >= 8
    refused = [answer for answer in answers if answer.status_code == 429]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert {answer.json()["error"]["code"] for answer in refused} == {"overloaded"}
