"""Streams of events: shared looks at the jobs that are followed, however many follow them; no thread a stream."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from producer.api.shares import Shares
from producer.pace import pause
from storage.contract.errors import AccessError, ServerError, UnknownJob

logger = logging.getLogger(__name__)

#: Shortest time between two looks at the same job, in seconds.
_POLL = 1.0

#: A job whose last look took longer, in seconds, or failed, is looked at beside the others, so that they hear in time.
_SLOW = 1.0

#: Longest silence of a stream, in seconds: who is between us and the reader may end what is silent.
HEARTBEAT = 15.0

#: How often it is asked whether a reader may still read, in seconds: a key that was revoked is refused soon.
_ASK_AGAIN = 4.0

#: Seconds after which a reader whose stream was cut comes again; browsers keep to it.
_COME_AGAIN = b"retry: 3000\n\n"

#: Looks at a job; returns its status object, and whether it has ended.
Look = Callable[[str], tuple[dict[str, Any], bool]]

#: Returns those of some jobs that have ended, or are gone: one cheap question.
Ended = Callable[[Sequence[str]], Sequence[str]]


class Streams:
    """Everybody who follows a job.

    Args:
        look: Looks at a job; called in a thread, for the jobs that are followed one after another.
        most: Most streams that are open at once.
        ended: Tells which of them are to be looked at although they were a moment ago.
    """

    def __init__(self, look: Look, most: int, ended: Ended) -> None:
        #: Who may follow at a time.
        self.places = Shares(most, ("Too many streams of events are open.", "Poll the job's status instead.", 10))
        self._look = look
        self._ended = ended
        self._watches: dict[str, _Watch] = {}
        #: Who looks at jobs that are quickly seen (False), and at others (True).
        self._pollers: dict[bool, asyncio.Task[None]] = {}
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
        for slow in (False, True):
            if (poller := self._pollers.get(slow)) is None or poller.done():
                self._pollers[slow] = asyncio.create_task(self._poll(slow))

    async def _poll(self, slow: bool) -> None:
        while self._watches and not self._closing:
            began = time.monotonic()
            followed = {job: watch for job, watch in self._watches.items() if not watch.ended and watch.slow == slow}
            for job_id, (status, ended) in (await asyncio.to_thread(self._look_at, followed)).items():
                if (watch := self._watches.get(job_id)) is not None:
                    watch.note(status, ended)
            await asyncio.sleep(max(0.0, _POLL - (time.monotonic() - began)))

    def _look_at(self, followed: Mapping[str, _Watch]) -> dict[str, tuple[dict[str, Any], bool]]:
        """Look at the jobs that are due, or have ended; that it fails for one keeps nobody else from hearing."""
        found: dict[str, tuple[dict[str, Any], bool]] = {}
        failures = []
        over = self._over(followed)
        for job_id, watch in followed.items() if over is not None else ():
            begin = time.monotonic()
            if begin < watch.due and (watch.failed or job_id not in (over or ())):
                continue
            failed = True
            try:
                found[job_id] = self._look(job_id)
                failed = False
            except UnknownJob:
                found[job_id] = ({"id": job_id, "deleted": True}, True)
            except ServerError as error:
                logger.debug("followers of job %s wait for the database: %s", job_id, error)
                if self._over(followed) is None:
                    break  # it is away, and each of the others would wait as long to hear so
            except Exception as error:
                # Such as a table that is being restored: whoever follows must hear when it is back. Or one job alone
                # cannot be read, and no other waits for it.
                failures.append(type(error).__name__)
            watch.looked(time.monotonic() - begin, failed)
        if failures:
            logger.error("%d jobs that are followed cannot be seen: %s", len(failures), failures[0])
        return found

    def _over(self, followed: Mapping[str, _Watch]) -> set[str] | None:
        """Return which jobs have ended, or are gone; None when the database does not answer that."""
        try:
            return set(self._ended(list(followed))) if followed else set()
        except ServerError as error:
            logger.debug("followers of jobs wait for the database: %s", error)
            return None
        except Exception:
            return set()  # the looks tell why


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
        #: When it is looked at again, unless it has ended before; and whether that takes long, or fails.
        self.due = 0.0
        self.slow = self.failed = False
        self._changed = asyncio.Event()

    def note(self, status: dict[str, Any], ended: bool) -> None:
        """Note where the job stands; readers wake if that is news."""
        data = json.dumps(status, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        if (data, ended) != (self.data, self.ended):
            self.data, self.ended = data, ended
            self.end = end_id(status)
            self.version += 1
            self.wake()

    def looked(self, cost: float, failed: bool) -> None:
        """Note how long a look took, and whether it failed: the dearer it is, the later the next one."""
        self.due = time.monotonic() + pause(cost, 0.0)
        self.slow, self.failed = failed or cost > _SLOW, failed

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
