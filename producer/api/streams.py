"""Streams of events: one shared look at all jobs that are followed, however many follow them; no thread a stream."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from producer.api.shares import Shares
from storage.contract.errors import AccessError, ServerError, UnknownJob

logger = logging.getLogger(__name__)

#: Shortest time between two looks at the same job, in seconds.
_POLL = 1.0

#: Longest silence of a stream, in seconds: who is between us and the reader may end what is silent.
HEARTBEAT = 15.0

#: How often it is asked whether a reader may still read, in seconds: a key that was revoked is refused soon.
_ASK_AGAIN = 4.0

#: Seconds after which a reader whose stream was cut comes again; browsers keep to it.
_COME_AGAIN = b"retry: 3000\n\n"

#: Looks at a job; returns its status object, and whether it has ended.
Look = Callable[[str], tuple[dict[str, Any], bool]]


class Streams:
    """Everybody who follows a job.

    Args:
        look: Looks at a job; called in a thread, for all jobs that are followed one after another.
        most: Most streams that are open at once.
    """

    def __init__(self, look: Look, most: int) -> None:
        #: Who may follow at a time.
        self.places = Shares(most, ("Too many streams of events are open.", "Poll the job's status instead.", 10))
        self._look = look
        self._watches: dict[str, _Watch] = {}
        self._poller: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def open(self) -> int:
        """How many streams are open."""
        return self.places.taken

    def close(self) -> None:
        """End all streams; their readers find the job again by its id."""
        self._closing = True
        for watch in self._watches.values():
            watch.wake()

    async def follow(
        self, job_id: str, status: dict[str, Any], ended: bool, ask: Callable[[], Awaitable[object]]
    ) -> AsyncIterator[bytes]:
        """Yield a job's events as they are written on the wire: `status` whenever it changed, `end` last.

        Args:
            job_id: The job.
            status: Its status object, just seen.
            ended: Whether it had ended by then.
            ask: Raises AccessError when its reader may not read any more.
        """
        watch = self._watches.setdefault(job_id, _Watch())
        watch.note(status, ended)
        watch.readers += 1
        self._keep_looking()
        try:
            yield _COME_AGAIN
            seen = 0
            spoken = asked = time.monotonic()
            while not self._closing:
                now = time.monotonic()
                if now - asked >= _ASK_AGAIN:
                    asked = now
                    if not await _may_go_on(ask):
                        return
                if watch.version != seen:
                    seen, spoken = watch.version, now
                    yield _event("status", watch.data, str(seen))
                elif now - spoken >= HEARTBEAT:
                    spoken = now
                    yield b": still there\n\n"
                if watch.ended:
                    yield _event("end", watch.data, watch.end)
                    return
                await watch.changes(min(_ASK_AGAIN, HEARTBEAT))
        finally:
            watch.readers -= 1
            if not watch.readers and self._watches.get(job_id) is watch:
                del self._watches[job_id]

    def _keep_looking(self) -> None:
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        while self._watches and not self._closing:
            began = time.monotonic()
            followed = [job_id for job_id, watch in self._watches.items() if not watch.ended]
            found = await asyncio.to_thread(self._look_at, followed)
            for job_id, (status, ended) in found.items():
                if (watch := self._watches.get(job_id)) is not None:
                    watch.note(status, ended)
            await asyncio.sleep(max(0.0, _POLL - (time.monotonic() - began)))

    def _look_at(self, job_ids: Sequence[str]) -> dict[str, tuple[dict[str, Any], bool]]:
        found = {}
        failures = []
        for job_id in job_ids:
            try:
                found[job_id] = self._look(job_id)
            except UnknownJob:
                found[job_id] = ({"id": job_id, "deleted": True}, True)
            except ServerError as error:
                logger.debug("followers of jobs wait for the database: %s", error)
                break
            except Exception as error:
                # Such as a table that is being restored: whoever follows must hear when it is back. Or one job alone
                # cannot be read, and no other waits for it.
                failures.append(type(error).__name__)
        if failures:
            logger.error("%d jobs that are followed cannot be seen: %s", len(failures), failures[0])
        return found


def end_id(status: dict[str, Any]) -> str:
    """Return the id of a job's `end` event: whoever says that it was his last has nothing more to hear.

    Args:
        status: The job's status object.
    """
    return f"end-{status.get('generation', 0)}"


class _Watch:
    """What is known of one job that is followed."""

    def __init__(self) -> None:
        self.readers = 0
        self.version = 0
        self.data = b""
        self.ended = False
        #: The id of its `end`.
        self.end = ""
        self._changed = asyncio.Event()

    def note(self, status: dict[str, Any], ended: bool) -> None:
        """Note where the job stands; readers wake if that is news."""
        data = json.dumps(status, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        if (data, ended) != (self.data, self.ended):
            self.data, self.ended = data, ended
            self.end = end_id(status)
            self.version += 1
            self.wake()

    def wake(self) -> None:
        """Wake every reader."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changes(self, seconds: float) -> None:
        """Wait until there is news, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


async def _may_go_on(ask: Callable[[], Awaitable[object]]) -> bool:
    try:
        await ask()
    except AccessError:
        return False
    except ServerError as error:
        logger.debug("it cannot be asked who reads: %s", error)
    return True


def _event(name: str, data: bytes, identity: str) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (identity.encode(), name.encode(), data)
