"""Those who wait for ends of jobs are woken although a table was away for a moment, as while a backup is put back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from producer.api.streams import Streams
from producer.api.waiting import Waiting
from storage.database import Database
from storage.hints import Hints
from storage.stores import Stores
from tests.storage.builders import serve, submit

#: Longest wait, in seconds.
_LONGEST = 90


@pytest.fixture
def waiting(stores: Stores, tmp_path: Path) -> Iterator[Waiting]:
    """Whoever waits for jobs, without a Redis that hints anything."""
    hints = Hints(f"unix://{tmp_path}/nowhere.sock")
    waiting = Waiting(stores.jobs, hints)
    waiting.start()
    yield waiting
    waiting.stop()
    hints.close()


def test_a_call_is_woken_although_the_jobs_were_away(
    stores: Stores, waiting: Waiting, caplog: pytest.LogCaptureFixture
) -> None:
    serve(stores)
    job_id = submit(stores)

    async def wait() -> bool:
        # Given somebody who has looked once and waits, while the table cannot be seen
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        ended = asyncio.create_task(waiting.until_ended(job_id, _LONGEST))
        await asyncio.sleep(0)
        await asyncio.to_thread(int)
        assert not ended.done()
        with _away(stores.database):
            await _noticed(caplog, "producer.api.waiting")
        # When the job ends after it is back
        await asyncio.to_thread(stores.jobs.cancel, job_id)
        return await ended

    with caplog.at_level(logging.DEBUG):
        # Then he is woken
        assert _run(wait())


def test_an_outage_is_told_once_and_so_is_its_end(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serve(stores)
    job_id = submit(stores)
    waiting = Waiting(stores.jobs, Hints(f"unix://{tmp_path}/nowhere.sock"))

    async def wait() -> bool:
        # Given somebody who has looked once and waits
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        ended = asyncio.create_task(waiting.until_ended(job_id, _LONGEST))
        await asyncio.sleep(0)
        await asyncio.to_thread(int)
        # When it is looked at again and again while the table is away, twice over
        for _ in range(2):
            with _away(stores.database):
                for _ in range(3):
                    await asyncio.to_thread(waiting._look)
            await asyncio.to_thread(waiting._look)
        await asyncio.to_thread(stores.jobs.cancel, job_id)
        await asyncio.to_thread(waiting._look)
        return await ended

    with caplog.at_level(logging.INFO):
        assert _run(wait())
    # Then each time that is told once, and so is its end
    told = [record.message.split(",")[0] for record in caplog.records if "ends of jobs" in record.message]
    assert told == ["the ends of jobs cannot be seen", "the ends of jobs are seen again"] * 2


def test_a_stream_tells_the_end_although_the_jobs_were_away(stores: Stores, caplog: pytest.LogCaptureFixture) -> None:
    serve(stores)
    job_id = submit(stores)

    def look(_: str) -> tuple[dict[str, Any], bool]:
        status = stores.statuses.get(job_id)
        return status.to_dict(), status.is_final

    async def nobody_objects() -> None:
        return

    async def follow() -> bytes:
        # Given somebody who follows a job, while the table cannot be seen
        streams = Streams(look, 1, stores.jobs.ended)
        events: AsyncIterator[bytes] = streams.follow(job_id, *look(job_id), nobody_objects)
        assert b"retry" in await anext(events) and b"status" in await anext(events)
        with _away(stores.database):
            await _noticed(caplog, "producer.api.streams")
        # When the job ends after it is back
        await asyncio.to_thread(stores.jobs.cancel, job_id)
        async with asyncio.timeout(_LONGEST):
            return b"".join([event async for event in events])

    with caplog.at_level(logging.DEBUG):
        # Then he hears of it
        assert b"event: end" in _run(follow())


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run it in a thread of its own: where a browser was driven before, this one has a loop that runs already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@contextmanager
def _away(database: Database) -> Iterator[None]:
    """Let the table of jobs have another name until the end of the block."""
    _rename(database, "jobs", "jobs_away")
    try:
        yield
    finally:
        _rename(database, "jobs_away", "jobs")


def _rename(database: Database, old: str, new: str) -> None:
    with database.write() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")


async def _noticed(caplog: pytest.LogCaptureFixture, name: str) -> None:
    async with asyncio.timeout(_LONGEST):
        while not any(record.name == name for record in caplog.records):
            await asyncio.sleep(0.05)
