"""Notices that messages wait in Redis while this idle process takes none: its consumer has come to rest, alive.

Celery over Redis was seen to stop consuming after ordinary network faults; only a new process helps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import redis

from storage.contract.broker import KEY_PREFIX
from storage.contract.errors import ServerError
from storage.redisclient import redis_client
from worker import exits
from worker.watches import Ending

#: How long messages may wait beside an idle process before its consumer counts as dead, in seconds; a free thread
#: takes a message within a fraction of one.
PATIENCE = 30.0

#: A process idle for so long is asked whether it should be, in seconds.
_CERTAINLY_IDLE = 5.0


class Starvation:
    """Looks at the queues beside a process.

    Args:
        redis_url: Where the queues are.
        queues: Names of the queues the process consumes.
        idle_for: Returns for how many seconds the process has had nothing to do.
        out: Returns how many messages are out: others may empty the queues so fast that none is ever seen there.
        patience: Seconds.
    """

    def __init__(
        self,
        redis_url: str,
        queues: Sequence[str],
        idle_for: Callable[[], float],
        out: Callable[[], int],
        patience: float = PATIENCE,
    ) -> None:
        self._redis = redis_client(redis_url)
        self._keys = [KEY_PREFIX + queue for queue in queues]
        self._idle_for = idle_for
        self._out = out
        self._patience = patience
        self._since: float | None = None

    def __call__(self) -> Ending | None:
        """Return why the process must end, if messages are not taken."""
        why = "messages wait and this idle process takes none"
        return Ending("workers_starved", why, exits.STARVED) if self.found() else None

    def found(self) -> bool:
        """Whether messages have waited for longer than patience while the process was idle all the time."""
        now = time.monotonic()
        if not self._messages_wait():
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return min(now - self._since, self._idle_for()) > self._patience

    def _messages_wait(self) -> bool:
        try:
            if any(self._redis.llen(key) for key in self._keys):
                return True
        except (redis.RedisError, OSError):
            # It is Redis that takes no messages, and a new process would not get any either.
            return False
        # Asked of an idle process only. Redis serves whoever has waited longest, so that it would have had its turn.
        with suppress(ServerError):
            return self._idle_for() > _CERTAINLY_IDLE and self._out() > 0
        return False
