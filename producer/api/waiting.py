"""Waits for the ends of many jobs at once: one ear for hints in Redis, one shared look into the database."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict

from producer.api.rounds import Rounds
from storage.contract.errors import ServerError
from storage.hints import Hints
from storage.jobs import JobStore

logger = logging.getLogger(__name__)

#: How often the database is asked for the jobs that are waited for, when Redis hints nothing, in seconds.
_POLL = 0.5

#: How long one ear listens, in seconds.
_EAR = 30.0


class Waiting:
    """Wakes those who wait when their jobs have ended.

    Args:
        jobs: Where jobs are looked up.
        hints: Tells of ends at once, while Redis is there.
    """

    def __init__(self, jobs: JobStore, hints: Hints) -> None:
        self._jobs = jobs
        self._hints = hints
        self._lock = threading.Lock()
        self._waiters: defaultdict[str, set[_Waiter]] = defaultdict(set)
        self._rounds = Rounds("waiting", self._listen, 0.0)
        #: Whether the last look failed, so that each outage is told once, and its end.
        self._blind = False

    def start(self) -> None:
        """Begin to listen."""
        self._rounds.start()

    def stop(self) -> None:
        """End; whoever waits is not woken."""
        self._rounds.stop()

    async def until_ended(self, job_id: str, timeout: float) -> bool:
        """Wait until a job has ended or is gone; return whether it has.

        Args:
            job_id: The job.
            timeout: Longest wait in seconds, that for the first look with it.
        """
        waiter = _Waiter(asyncio.get_running_loop())
        with self._lock:
            self._waiters[job_id].add(waiter)
        try:
            async with asyncio.timeout(timeout):
                # It may have ended before anybody listened for it.
                if not await asyncio.to_thread(self._jobs.ended, [job_id]):
                    await waiter.woken.wait()
            return True
        except TimeoutError:
            return False
        finally:
            with self._lock:
                self._waiters[job_id].discard(waiter)
                if not self._waiters[job_id]:
                    del self._waiters[job_id]

    def _listen(self) -> None:
        """Listen for a while: now and then comes a new ear, so that one that went deaf with Redis hears again."""
        with self._hints.listen() as listener:
            until = time.monotonic() + _EAR
            while not self._rounds.stopping.is_set() and time.monotonic() < until:
                self._wake(listener.hear(_POLL))
                self._look()

    def _look(self) -> None:
        with self._lock:
            awaited = list(self._waiters)
        if not awaited:
            return
        try:
            self._wake(self._jobs.ended(awaited))
        except ServerError as error:
            self._missed(logging.WARNING, str(error))
        except Exception as error:
            # Such as a table that is being restored: whoever waits must be woken when it is back.
            self._missed(logging.ERROR, type(error).__name__)
        else:
            if self._blind:
                logger.info("the ends of jobs are seen again")
            self._blind = False

    def _missed(self, level: int, why: str) -> None:
        if not self._blind:
            logger.log(level, "the ends of jobs cannot be seen, until it is said that they are: %s", why)
        self._blind = True

    def _wake(self, job_ids: list[str]) -> None:
        with self._lock:
            found = [waiter for job_id in job_ids for waiter in self._waiters.get(job_id, ())]
        for waiter in found:
            waiter.wake()


class _Waiter:
    """One who waits, in the event loop it waits in."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.woken = asyncio.Event()

    def wake(self) -> None:
        """Wake it, from any thread; a loop that has been closed needs no waking."""
        try:
            self._loop.call_soon_threadsafe(self.woken.set)
        except RuntimeError:
            return
