"""Streams of jobs some of which take long to be looked at, or cannot be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest

from producer.api import streams as module
from producer.api.streams import Look, Streams
from storage.contract.errors import StorageUnavailable
from storage.stores import Stores
from tests.storage.builders import serve, submit

#: Far beyond what any of this takes, on a slow machine too.
_LONGEST = 60.0


def test_a_job_that_cannot_be_looked_at_silences_nobody_and_is_tried_again(stores: Stores) -> None:
    # Given two jobs that are followed, the first of which takes so long to be counted that the database gives it up
    serve(stores)
    sick, well = submit(stores), submit(stores)
    failing, tried = [sick], []

    def look(job_id: str) -> tuple[dict[str, Any], bool]:
        if job_id in failing:
            tried.append(job_id)
            raise StorageUnavailable("canceling statement due to statement timeout")
        return _look(stores)(job_id)

    async def follow() -> None:
        streams = Streams(look, 2, stores.jobs.ended)
        async with _following(streams, stores, sick) as of_sick, _following(streams, stores, well) as of_well:
            while not tried:
                await asyncio.sleep(0.05)
            # When the other one ends, then whoever follows it hears so
            await asyncio.to_thread(stores.jobs.cancel, well)
            assert await _hears_the_end(of_well)
            # And when the first can be seen again and ends, so is that
            failing.clear()
            await asyncio.to_thread(stores.jobs.cancel, sick)
            assert await _hears_the_end(of_sick)

    _run(follow())


def test_a_job_that_takes_long_to_be_looked_at_delays_nobody(stores: Stores) -> None:
    # Given two jobs that are followed, the first of which takes long to be looked at, and now takes for ever
    serve(stores)
    huge, small = submit(stores), submit(stores)
    hangs, goes_on = threading.Event(), threading.Event()

    def look(job_id: str) -> tuple[dict[str, Any], bool]:
        if job_id == huge:
            hangs.set()
            assert goes_on.wait(_LONGEST)
        return _look(stores)(job_id)

    async def follow() -> None:
        streams = Streams(look, 2, stores.jobs.ended)
        async with _following(streams, stores, huge) as of_huge:
            streams._watches[huge].slow = True
            assert await asyncio.to_thread(hangs.wait, _LONGEST)
            # When the other one ends meanwhile, then whoever follows it hears so
            async with _following(streams, stores, small) as of_small:
                await asyncio.to_thread(stores.jobs.cancel, small)
                assert await _hears_the_end(of_small)
            # And so is the end of the first told, once it is seen
            goes_on.set()
            await asyncio.to_thread(stores.jobs.cancel, huge)
            assert await _hears_the_end(of_huge)

    _run(follow())


def test_how_slow_a_look_was_is_noted() -> None:
    watch = module._Watch()
    watch.looked(0.01, False)
    assert (watch.slow, watch.failed) == (False, False)
    watch.looked(5.0, False)
    assert (watch.slow, watch.failed) == (True, False)
    watch.looked(0.01, True)
    assert (watch.slow, watch.failed) == (True, True)


def test_what_is_dear_to_look_at_is_looked_at_seldom_and_its_end_is_told_at_once(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job of which each look takes so long that the next one is due in an hour
    monkeypatch.setattr(module, "pause", lambda cost, least: 3600.0)
    serve(stores)
    job_id = submit(stores)
    looks: list[str] = []

    def look(job_id: str) -> tuple[dict[str, Any], bool]:
        looks.append(job_id)
        return _look(stores)(job_id)

    async def follow() -> None:
        asked: list[list[str]] = []

        def ended(job_ids: Any) -> list[str]:
            asked.append(list(job_ids))
            return stores.jobs.ended(job_ids)

        streams = Streams(look, 1, ended)
        async with _following(streams, stores, job_id) as events:
            # When it was asked again and again whether it has ended, then it was looked at once
            async with asyncio.timeout(_LONGEST):
                while len([one for one in asked if one]) < 4:
                    await asyncio.sleep(0.05)
            assert looks == [job_id]
            # And when it ends, then that is told
            await asyncio.to_thread(stores.jobs.cancel, job_id)
            assert await _hears_the_end(events)

    _run(follow())


def _look(stores: Stores) -> Look:
    def look(job_id: str) -> tuple[dict[str, Any], bool]:
        status = stores.statuses.get(job_id)
        return status.to_dict(), status.is_final

    return look


@asynccontextmanager
async def _following(streams: Streams, stores: Stores, job_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
    async def nobody_objects() -> None:
        return

    events = streams.follow(job_id, *_look(stores)(job_id), nobody_objects)
    assert b"retry" in await anext(events)
    async with aclosing(cast(AsyncGenerator[bytes, None], events)):
        yield events


async def _hears_the_end(events: AsyncIterator[bytes]) -> bool:
    async with asyncio.timeout(_LONGEST):
        return b"event: end" in b"".join([event async for event in events])


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run it in a thread of its own: where a browser was driven before, this one has a loop that runs already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
