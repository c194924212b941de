"""Makes the queue agree with storage: expired leases, lost messages, what to send next, jobs to finish, rows to purge.

Any number of reconcilers may run; the one that holds the leader row works. Every step is a guarded statement, so that
two that both believe to lead do no harm.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Callable
from types import FrameType

import redis

from storage.contract.broker import KEY_PREFIX
from storage.contract.errors import EmbedmillError, ServerError
from storage.contract.ids import new_id
from storage.contract.models import ModelCard, Priority, queue_name
from storage.contract.settings import Settings
from storage.dispatch import Send, dispatch_next
from storage.hints import Hints
from storage.leaders import LeaderStore
from storage.stores import Stores
from worker import logs
from worker.parent import Supervisor, die_with_parent
from worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

#: Pause between two sweeps, in seconds.
TICK = 1.0

#: A message not answered for so long counts as lost, whatever Redis says, in milliseconds.
LOST_AFTER = 600_000

#: The same when Redis holds fewer messages than were sent and not answered, in milliseconds: a worker claims within
#: moments of taking one. A fleet that is merely slow leaves its messages in Redis, and none is sent twice.
MISSED_AFTER = 3_000

#: A job whose submission has been silent for so long is thrown away, in milliseconds: its producer is gone.
ABANDONED_AFTER = 24 * 3600 * 1000

#: Sweeps between two looks for rows to purge.
_PURGE_EVERY = 60


class Reconciler:
    """Sweeps again and again.

    Args:
        stores: The truth.
        redis_url: The hint.
        send: Sends pointers to Redis.
    """

    def __init__(self, stores: Stores, redis_url: str, send: Send) -> None:
        self._stores = stores
        self._send = send
        self._hints = Hints(redis_url)
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2)
        self._leaders = LeaderStore(stores.database)
        self._id = new_id()
        self._sweeps = 0

    def run(self, stopped: threading.Event) -> None:
        """Sweep every second until stopped; an error in one sweep is told, and the next one begins as ever."""
        while not stopped.wait(TICK):
            try:
                if self._leaders.lead("reconcile", self._id):
                    self.sweep()
            except ServerError as error:
                logger.warning("sweep cut short: %s", error)
            except Exception:
                logger.exception("sweep cut short by an unexpected error")
        self._leaders.resign("reconcile", self._id)

    def sweep(self) -> None:
        """Do every duty once; one that fails does not keep the next from its turn."""
        duties: list[Callable[[], None]] = [self._expire, self._recover_messages, self._dispatch, self._finish]
        if self._sweeps % _PURGE_EVERY == 0:
            duties.append(self._purge)
        self._sweeps += 1
        for duty in duties:
            try:
                duty()
            except EmbedmillError as error:
                logger.warning("%s: %s", duty.__name__.strip("_").replace("_", " "), error)

    def _expire(self) -> None:
        expired = self._stores.leases.release_expired()
        if expired:
            logger.warning("took back %d chunks whose worker has been silent for too long", expired)

    def _recover_messages(self) -> None:
        lost = self._stores.chunks.redispatch(LOST_AFTER)
        for card in self._served():
            out = self._stores.chunks.out(card.id)
            if out and self._in_redis(card) < out:
                lost += self._stores.chunks.redispatch(MISSED_AFTER, card.id)
        if lost:
            logger.warning("took back %d messages that nobody answered", lost)

    def _in_redis(self, card: ModelCard) -> float:
        """Return how many messages wait for a model; more than any number where Redis cannot say."""
        names = [f"{KEY_PREFIX}{queue_name(card.name, card.id, priority)}" for priority in Priority]
        try:
            return sum(self._redis.llen(name) for name in names)
        except (redis.RedisError, OSError):
            return math.inf

    def _dispatch(self) -> None:
        for card in self._served():
            self._stores.workers.adopt(card)
            dispatch_next(self._stores.chunks, self._send, card.name, card.id)

    def _finish(self) -> None:
        self._hints.publish(self._stores.jobs.finish_all())

    def _purge(self) -> None:
        self._stores.workers.forget_gone()
        for job_id in self._stores.jobs.to_purge(ABANDONED_AFTER):
            self._stores.jobs.purge(job_id)

    def _served(self) -> list[ModelCard]:
        return [served.card for served in self._stores.workers.cards() if served.workers]


def run_until_stopped(settings: Settings) -> None:
    """Reconcile until SIGTERM or SIGINT.

    Raises:
        StorageUnavailable: When the database cannot be reached at the start.
    """
    from worker.app import send

    stopped = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    Reconciler(Stores.open(settings), settings.redis, send).run(stopped)


def main() -> None:
    """Run as a child of the supervisor."""
    die_with_parent()
    settings = WorkerSettings.load()
    logs.configure(settings.log_level)
    supervisor = Supervisor()
    supervisor.beat_for_ever()
    # From here on silence means that it hangs, and it is killed.
    supervisor.tell(ready=True)
    run_until_stopped(settings)


if __name__ == "__main__":
    main()
