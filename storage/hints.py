"""Hints in Redis that a job has ended: they save waiting, nothing depends on them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import redis

from storage.contract.broker import FINISHED_CHANNEL
from storage.redisclient import redis_client
from storage.rest import Rest

#: How long a hint may take to be sent, in seconds; waiters poll anyway.
_TIMEOUT = 1.0


class Hints:
    """Publishes and hears the ends of jobs.

    Args:
        redis_url: The Redis-protocol server; it may be down at any time.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis = redis_client(redis_url, _TIMEOUT)
        self._rest = Rest()

    def publish(self, job_ids: Iterable[str]) -> None:
        """Tell everybody who waits that these jobs have ended; silently does nothing when Redis is down."""
        told = " ".join(job_ids)
        if not told or self._rest.due:
            return
        with contextlib.suppress(redis.RedisError, OSError), self._rest.noting():
            self._redis.publish(FINISHED_CHANNEL, told)

    def answers(self) -> bool:
        """Whether Redis answers within a second; where it did not a moment ago it is not asked."""
        if self._rest.due:
            return False
        try:
            with self._rest.noting():
                return bool(self._redis.ping())
        except (redis.RedisError, OSError):
            return False

    def listen(self) -> Listener:
        """Return an ear that hears every hint from now on."""
        return Listener(self._redis, self._rest)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


class Listener:
    """Waits for hints, or simply sleeps when Redis is down."""

    def __init__(self, client: Any, rest: Rest) -> None:
        self._pubsub: Any = None
        if rest.due:
            return
        with contextlib.suppress(redis.RedisError, OSError), rest.noting():
            pubsub = client.pubsub(ignore_subscribe_messages=True)
            pubsub.subscribe(FINISHED_CHANNEL)
            self._pubsub = pubsub

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pubsub is not None:
            with contextlib.suppress(redis.RedisError, OSError):
                self._pubsub.close()

    def wait(self, job_id: str, seconds: float) -> bool:
        """Wait until the job's end is hinted; return whether it was.

        Args:
            job_id: The job waited for.
            seconds: Longest wait.
        """
        deadline = time.monotonic() + seconds
        for message in self._messages(deadline):
            if job_id in message:
                return True
        time.sleep(max(0.0, deadline - time.monotonic()))
        return False

    def hear(self, seconds: float) -> list[str]:
        """Return the jobs whose ends were hinted within a time, as soon as there is one; empty when it is over.

        Args:
            seconds: Longest wait.
        """
        deadline = time.monotonic() + seconds
        for message in self._messages(deadline):
            return message
        time.sleep(max(0.0, deadline - time.monotonic()))
        return []

    def _messages(self, deadline: float) -> Iterator[list[str]]:
        while self._pubsub is not None and (left := deadline - time.monotonic()) > 0:
            try:
                message = self._pubsub.get_message(timeout=left)
            except (redis.RedisError, OSError):
                self._pubsub = None
                return
            if message is not None:
                # Whoever may publish may publish anything; what is no id is waited for by nobody.
                yield message["data"].decode(errors="replace").split()
