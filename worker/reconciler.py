"""Makes the queue agree with storage: expired leases, lost messages, what to send next, jobs to finish, rows to purge.

Any number of reconcilers may run; the one that holds the leader row works. Every step is a guarded statement, so that
two that both believe to lead do no harm.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import redis

from storage import counters, fullness, logs, tracing
from storage.contract import failpoints
from storage.contract.broker import KEY_PREFIX
from storage.contract.errors import EmbedmillError, ServerError
from storage.contract.ids import new_id
from storage.contract.models import ModelCard, Priority, queue_name
from storage.contract.settings import Settings
from storage.dispatch import Send, dispatch_next
from storage.hints import Hints
from storage.leaders import RECONCILE, LeaderStore
from storage.redisclient import redis_client
from storage.stores import Stores
from worker import exits, measures
from worker.brokercheck import findings
from worker.keeper import Keeper
from worker.parent import Supervisor, die_with_parent
from worker.settings import WorkerSettings
from worker.shortages import Shortages
from worker.sparing import Sparing
from worker.stop import Stop, on_signals

logger = logging.getLogger("worker.reconciler")

#: Pause between two sweeps, in seconds.
TICK = 1.0

#: Pause between two looks at how Redis is set up, in seconds.
_ADVISE_EVERY = 60.0

#: A message not answered for so long counts as lost, whatever Redis says, in milliseconds.
LOST_AFTER = 600_000

#: The same when Redis holds fewer messages than were sent and not answered, look after look, in milliseconds: a worker
#: claims within moments of taking one. A fleet that is merely slow leaves its messages in Redis: none is sent twice.
MISSED_AFTER = 3_000


class _Seen(NamedTuple):
    """What Redis says of itself.

    Args:
        is_new: Whether it is another one than a sweep ago: started again, or a replica that took over.
        waiting: Messages that wait in it, by model id.
    """

    is_new: bool
    waiting: dict[str, int]


class Reconciler:
    """Sweeps again and again.

    Args:
        stores: The truth.
        redis_url: The hint.
        send: Sends pointers to Redis.
        leader_id: The id of this start, by which the supervisor gives up the lead when it has died.
    """

    def __init__(self, stores: Stores, redis_url: str, send: Send, leader_id: str | None = None) -> None:
        self._stores = stores
        self._send = send
        self._hints = Hints(redis_url)
        self._redis = redis_client(redis_url)
        self._leaders = LeaderStore(stores.database)
        self._id = leader_id or new_id()
        self._run_id: str | None = None
        self._findings: list[str] = []
        self._advised = -_ADVISE_EVERY
        self._keeper = Keeper(stores)
        self._sparing = Sparing(logger)
        self._shortages = Shortages()

    def run(self, stopped: Stop | threading.Event, ticked: Callable[[], object] = lambda: None) -> None:
        """Sweep every second until stopped; an error in one sweep is told, and the next one begins as ever.

        Args:
            stopped: Set to end it.
            ticked: Called before each sweep and after each duty, whether this one leads or not: a sign of life.
        """
        leads = False
        while not stopped.wait(TICK):
            ticked()
            try:
                leads, led = self._leaders.lead(RECONCILE, self._id), leads
                if leads:
                    if not led:
                        logger.info("this reconciler leads from now on")
                        self._shortages.forget()
                    begin = time.monotonic()
                    self.sweep(ticked)
                    measures.here.count(reconciler_sweeps=1, reconciler_sweep_seconds=time.monotonic() - begin)
            except ServerError as error:
                self._sparing.warning(f"sweep cut short: {error}")
            except Exception:
                counters.count("sweeps_failed")
                logger.exception("sweep cut short by an unexpected error")
        try:
            self._leaders.resign(RECONCILE, self._id)
        except ServerError as error:
            logger.warning("could not give up the lead, its term runs out: %s", error)

    def sweep(self, done: Callable[[], object] = lambda: None) -> None:
        """Do every duty once; one that fails does not keep the next from its turn.

        Args:
            done: Called after each.
        """
        failpoints.reach("reconcile.begin")
        duties = (
            partial(self._expire, done),
            self._settle,
            self._recover,
            self._dispatch,
            self._finish,
            self._purge,
            self._check,
            self._advise,
        )
        for duty in duties:
            self._attempt(duty)
            done()
        self._attempt(self._stores.counters.flush)

    def _attempt(self, duty: Callable[[], object]) -> None:
        try:
            duty()
        except ServerError as error:
            self._sparing.warning(str(error))
        except Exception:
            # One row that nobody foresaw must not keep all others waiting.
            counters.count("sweeps_failed")
            logger.exception("a duty of the reconciler was cut short by an unexpected error")

    def _expire(self, done: Callable[[], object]) -> None:
        expired = self._stores.leases.release_expired()
        if expired:
            logger.warning("took back %d chunks whose worker has been silent for too long", expired)
        self._tell(self._stores.jobs.expire(done))
        failpoints.reach("reconcile.expired")

    def _settle(self) -> None:
        self._keeper.settle()

    def _recover(self) -> None:
        """Take back chunks whose message is lost, so that they are sent again."""
        seen = self._look(self._served())
        if seen is None:
            self._shortages.forget()
        lost = self._stores.chunks.redispatch(0 if seen is not None and seen.is_new else LOST_AFTER)
        for model_id, waiting in seen.waiting.items() if seen is not None else ():
            if self._shortages.lasts(model_id, self._stores.chunks.out(model_id) - waiting):
                lost += self._stores.chunks.redispatch(MISSED_AFTER, model_id)
        if lost:
            logger.warning("took back %d messages that nobody answered", lost)
        failpoints.reach("reconcile.recovered")

    def _look(self, cards: Sequence[ModelCard]) -> _Seen | None:
        """Ask Redis in one breath who it is and how many messages wait for each model; None where it cannot say."""
        asked = self._redis.pipeline(transaction=False)
        asked.info("server")
        for card in cards:
            for priority in Priority:
                asked.llen(f"{KEY_PREFIX}{queue_name(card.name, card.id, priority)}")
        try:
            about, *lengths = asked.execute()
        except (redis.RedisError, OSError):
            return None
        before, self._run_id = self._run_id, about["run_id"]
        each = len(Priority)
        waiting = {card.id: sum(lengths[i * each : (i + 1) * each]) for i, card in enumerate(cards)}
        return _Seen(before not in (None, self._run_id), waiting)

    def _dispatch(self) -> None:
        for card in self._served():
            self._attempt(partial(self._dispatch_for, card))
        failpoints.reach("reconcile.dispatched")

    def _dispatch_for(self, card: ModelCard) -> None:
        self._stores.workers.adopt(card)
        dispatch_next(self._stores.chunks, self._send, card.name, card.id)

    def _finish(self) -> None:
        self._tell(self._stores.jobs.finish_all())
        failpoints.reach("reconcile.finished")

    def _tell(self, ended: list[str]) -> None:
        self._hints.publish(ended)
        tracing.ended(ended, self._stores.statuses.many)

    def _purge(self) -> None:
        self._keeper.purge()

    def _check(self) -> None:
        self._keeper.check()

    def _advise(self) -> None:
        """Tell the operator what is wrong with Redis, whenever that has changed."""
        if time.monotonic() - self._advised < _ADVISE_EVERY:
            return
        self._advised = time.monotonic()
        found = findings(self._redis)
        for finding in found:
            if finding not in self._findings:
                logger.warning("%s", finding)
        self._findings = found

    def _served(self) -> list[ModelCard]:
        return [served.card for served in self._stores.workers.cards() if served.workers]


def run_until_stopped(
    settings: Settings, leader_id: str | None = None, ticked: Callable[[], object] = lambda: None
) -> None:
    """Reconcile until SIGTERM, SIGINT or SIGHUP.

    Args:
        settings: Where storage and Redis are.
        leader_id: As for `Reconciler`.
        ticked: As for `Reconciler.run`.

    Raises:
        StorageUnavailable: When the database cannot be reached at the start.
    """
    from worker.app import send

    tracing.start(settings, "reconciler")
    fullness.listen(lambda: measures.here.count(reconciler_storage_full=1))
    stopped = Stop()
    on_signals(stopped.set)
    Reconciler(Stores.open(settings), settings.redis, send, leader_id).run(stopped, ticked)


def main() -> None:
    """Run as a child of the supervisor, which gives the id of this start as an argument."""
    die_with_parent()
    settings = WorkerSettings.load()
    logs.configure(settings.log_level, "reconciler", settings.log_format)
    supervisor = Supervisor()
    supervisor.beat_for_ever()
    # From here on silence means that it hangs, and it is killed.
    supervisor.tell(ready=True)
    try:
        run_until_stopped(settings, sys.argv[1] if len(sys.argv) > 1 else None, supervisor.in_touch)
    except EmbedmillError as error:
        logger.error("%s", error)
        sys.exit(exits.STORAGE_AWAY)


if __name__ == "__main__":
    main()
