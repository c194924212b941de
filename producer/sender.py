"""Sends what a queue's window has room for, and tells the submitter where it must wait: the job is safe in any case."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from producer.queue import Queue
from producer.servedmodels import ServedModels
from storage.contract.errors import QueueUnavailable
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.dispatch import dispatch_next, send_marked
from storage.jobrecords import JobRecord
from storage.stores import Stores


class Sender:
    """Sends messages for jobs that were just accepted, or are to go on; returns what the submitter should know.

    Args:
        stores: Where the jobs are.
        queue: What is sent through.
        served: Which models are served.
    """

    def __init__(self, stores: Stores, queue: Queue, served: ServedModels) -> None:
        self._stores = stores
        self._queue = queue
        self._served = served

    def due(self, record: JobRecord) -> str | None:
        """Send what the window has room for, unless the job has to wait for something; return for what.

        Args:
            record: The job.
        """
        waiting = self._stores.statuses.waiting_for(record.id)
        if waiting is not None or record.model_id is None:
            others = f" (served now: {', '.join(names)})" if waiting and (names := self._served.names()) else ""
            return f"The job is safe and waits for {waiting}{others}" if waiting else None
        return self.next(record.model, record.model_id, record.priority)

    def next(self, model: str, model_id: str, priority: Priority) -> str | None:
        """Send what the window of a model's queue has room for; return why that cannot be done now.

        Args:
            model: The model's name.
            model_id: Its identity.
            priority: Which of its queues.
        """
        return self._sent(dispatch_next, model, model_id, [priority])

    def marked(self, pointers: Sequence[Pointer], queue: str) -> str | None:
        """Send what was marked as sent; return why that cannot be done now.

        Args:
            pointers: What was marked.
            queue: Name of the queue.
        """
        return self._sent(send_marked, pointers, queue)

    def _sent(self, dispatch: Callable[..., object], *what: object) -> str | None:
        try:
            dispatch(self._stores.chunks, self._queue.send, *what)
        except QueueUnavailable as error:
            reason = error.message.rstrip(".")
            return f"{reason}: the job is safe and starts when Redis takes messages again."
        return None
