"""One worker process: one slot, one model. Loads, warms, registers, then consumes until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import warnings
from functools import partial
from typing import Any

from storage import counters, fullness, logs, tracing
from storage.contract.errors import EmbedmillError, ModelError, QueueUnavailable, ServerError
from storage.contract.ids import new_id
from storage.contract.models import Priority, queue_name
from storage.dispatch import dispatch_next
from storage.hints import Hints
from storage.stores import Stores
from worker import exits, measures
from worker.embedding import Embedding
from worker.heartbeat import INTERVAL, Heartbeat
from worker.memory import MemoryWatch
from worker.parent import Supervisor, die_with_parent
from worker.reserve import STRATEGY, TASK_THREADS
from worker.settings import WorkerSettings
from worker.starvation import Starvation
from worker.vitals import Vitals
from worker.watches import Watch, stall

logger = logging.getLogger("worker.process")

#: Most seconds a stopping process waits for the batch on the device.
_LAST_BATCH = 5.0

#: How often a blocked wait for a message returns, in seconds: the most a free thread waits for bulk after a full house.
_BRPOP_TIMEOUT = 0.2


class Process:
    """One start of a worker process.

    Args:
        settings: What to serve and where.
        slot: Name of the slot, as a person reads it.
        torch_device: What torch calls the device in this process.
        worker_id: The id of this start; the supervisor releases its leases by it.
    """

    def __init__(self, settings: WorkerSettings, slot: str, torch_device: str, worker_id: str) -> None:
        self._settings = settings
        self._slot = slot
        self._torch_device = torch_device
        self._id = worker_id
        self._supervisor = Supervisor()
        self._stores: Stores
        self._engine: Any
        #: How the engine was set up, and why, in a sentence.
        self._setup = ""
        self._hints = Hints(settings.redis)
        self._worked = False

    def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        fullness.listen(lambda: measures.here.count(worker_storage_full=1))
        self._supervisor.beat_for_ever()
        try:
            self._stores = Stores.open(self._settings, lease=int(self._settings.lease_seconds * 1000))
            self._engine = self._load()
            self._register()
        except ModelError as error:
            return self._give_up(error, exits.MODEL_UNUSABLE)
        except EmbedmillError as error:
            return self._give_up(error, exits.DEVICE_FAILED if error.code == "engine_failed" else exits.STORAGE_AWAY)
        try:
            return self._consume()
        finally:
            self._engine.stop(wait=_LAST_BATCH)
            self._leave()

    def _load(self) -> Any:
        from worker.engine.checkpoint import resolve
        from worker.engine.loading import load_engine  # imports torch, after the device was pinned

        settings = self._settings
        checkpoint = resolve(settings.model, settings.revision)
        if checkpoint.is_assumed:
            remedy = "where another was meant, jobs must name it (--pooling)"
            logger.warning("%s has no modules.json: mean pooling assumed; %s", checkpoint.name, remedy)
        asked = (settings.dtype, settings.token_budget, settings.backend)
        engine, self._setup = load_engine(checkpoint, self._torch_device, *asked)
        engine.warm()
        return engine

    def _register(self) -> None:
        card = self._engine.card
        where = (socket.gethostname(), os.getpid(), self._slot)
        self._stores.workers.register(card, self._id, *where, tokenizer=self._engine.tokenizer_file)
        self._supervisor.tell(ready=True, model_id=card.id)
        logs.add(model=card.name)
        logger.info(
            "serving %s at %s on %s in %s, width %d, pooling %s; %s",
            card.name,
            card.revision[:12],
            self._slot,
            card.precision,
            card.width,
            card.pooling,
            self._setup,
        )

    def _sign_on(self) -> None:
        """Register again when the row is gone: the reconciler forgets whom it has not seen for minutes."""
        if not self._stores.workers.knows(self._id):
            logger.warning("this worker was forgotten while the database was away: registering again")
            self._register()

    def _consume(self) -> int:
        from celery.apps import worker as program
        from celery.signals import setup_logging, worker_ready, worker_shutting_down

        from worker import tasks
        from worker.app import app
        from worker.engine.devicememory import device_memory

        card = self._engine.card
        options = dict(app.conf.broker_transport_options)
        options |= {"queue_order_strategy": STRATEGY, "polling_interval": _BRPOP_TIMEOUT}
        app.conf.broker_transport_options = options
        outside = (self._note_work, self._send_next, self._end_broken)
        embedding = Embedding(self._stores, self._engine, self._id, *outside)
        tasks.serve(embedding)
        queues = [queue_name(card.name, card.id, priority) for priority in sorted(Priority, reverse=True)]
        watches: list[Watch] = [
            stall(lambda: self._engine.progress),
            Starvation(self._settings.redis, queues, embedding.idle_for, partial(self._stores.chunks.out, card.id)),
            MemoryWatch(self._settings.max_memory_growth),
            self._count_engine,
        ]
        interval = min(INTERVAL, self._settings.lease_seconds / 4)
        vitals = Vitals(partial(device_memory, self._torch_device), interval / 2)
        vitals.start()
        Heartbeat(
            self._stores,
            self._id,
            embedding.held,
            self._sign_on,
            watches,
            interval,
            pulse=lambda: vitals.latest,
            beaten=self._supervisor.in_touch,
        ).start()
        worker_shutting_down.connect(self._on_stop, weak=False)
        # Celery would take SIGHUP for a wish to be started anew, which is the supervisor's part.
        worker_ready.connect(lambda **_: signal.signal(signal.SIGHUP, signal.SIG_IGN), weak=False)
        # The log is ours: Celery sets up none, and says no word that goes past it.
        setup_logging.connect(lambda **_: None, weak=False)
        program.safe_say = lambda *_: None
        worker = app.Worker(
            pool="threads",
            concurrency=TASK_THREADS,
            queues=queues,
            hostname=f"{self._slot.replace(':', '')}-{self._id[-6:]}@{socket.gethostname()}",
            without_gossip=True,
            without_heartbeat=True,
            without_mingle=True,
            quiet=True,
            loglevel=self._settings.log_level,
        )
        worker.start()
        return int(worker.exitcode or 0)

    def _note_work(self, finished: list[str]) -> None:
        """Tell the supervisor, once, that this start is good for something; tell everybody which jobs ended."""
        if not self._worked:
            self._worked = True
            self._supervisor.tell(worked=True)
        self._hints.publish(finished)
        tracing.ended(finished, self._stores.statuses.many)

    def _count_engine(self) -> None:
        for name, times in self._engine.take_counts().items():
            counters.count(name, times)

    def _send_next(self) -> None:
        from worker.app import send

        try:
            dispatch_next(self._stores.chunks, send, self._engine.card.name, self._engine.card.id)
        except (QueueUnavailable, ServerError) as error:
            logger.warning("could not send the next chunks, the reconciler will: %s", error)

    def _on_stop(self, **_: Any) -> None:
        """Let running chunks finish for a while; then the engine refuses, and each task gives its lease back."""
        logger.info("stopping: running chunks get up to %.0f s", self._settings.stop_grace)
        timer = threading.Timer(self._settings.stop_grace, self._engine.stop)
        timer.daemon = True
        timer.start()

    def _end_broken(self) -> None:
        """End at once, holding what is held: the supervisor charges it, and a text that breaks devices is found."""
        try:
            self._stores.counters.flush()
        finally:
            os._exit(exits.DEVICE_FAILED)

    def _leave(self) -> None:
        try:
            self._stores.leases.release_worker(self._id)
            self._stores.workers.leave(self._id)
            self._stores.counters.flush()
        except ServerError as error:
            logger.warning("could not sign off, the leases run out by themselves: %s", error)

    def _give_up(self, error: EmbedmillError, code: int) -> int:
        logger.error("%s", error)
        self._supervisor.tell(error=str(error), code=error.code)
        return code


def main(process: type[Process] = Process) -> None:
    """Run the process that the supervisor described in the environment and the arguments: slot, device, id.

    Args:
        process: What is run; a test gives one with an engine of its own.
    """
    die_with_parent()
    # Running as root in a container is the operator's choice; JSON alone is accepted, so it opens no door.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    # What Celery will do one day when it loses Redis, told in ten lines whenever it does.
    warnings.filterwarnings("ignore", message=r"\s*In Celery 5\.1 we introduced an optional breaking change")
    slot, torch_device, worker_id = (*sys.argv[1:], "cpu", "cpu", new_id())[:3]
    settings = WorkerSettings.load()
    logs.configure(settings.log_level, "worker", settings.log_format, worker_id=worker_id, slot=slot)
    tracing.start(settings, "worker")
    sys.exit(process(settings, slot, torch_device, worker_id).run())


if __name__ == "__main__":
    main()
