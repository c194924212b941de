"""Celery's consumer, less two weaknesses.

A message that cannot be read ends the worker, goes back, and ends the next; and the longer Redis was away, the longer
it waits before it looks again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker import state
from celery.worker.consumer import Consumer as CelerysConsumer

from storage import counters
from worker.reserve import held_requests

logger = logging.getLogger(__name__)

#: Longest pause between two attempts to connect, in seconds.
_RETRY_CAP = 3.0


class Consumer(CelerysConsumer):  # type: ignore[misc] # Celery has no annotations
    """Drops what it cannot read; if it was a pointer, its chunk is sent again."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, however long Redis is away; kombu's own pauses grow to half a minute.

        Args:
            conn: A connection that is not yet made.
        """
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=1.0, interval_step=1.0, interval_max=_RETRY_CAP
        )
        return super().ensure_connected(conn)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return what is called with each message."""
        handle = super().create_task_handler(*args, **kwargs)

        def handle_or_drop(message: Any) -> None:
            try:
                if (message.headers or {}).get("eta"):
                    # None of ours has one, and one far away would hold a task thread until then.
                    raise ValueError("a message for later")
                handle(message)
            except Exception as error:
                _forget(message)
                counters.count("messages_unreadable")
                logger.warning("dropped a message that cannot be read (%s)", type(error).__name__)
                message.reject_log_error(logger, self.connection_errors)

        return handle_or_drop


def _forget(message: Any) -> None:
    """Give back the place of a message whose task could not be begun; nobody else would, and every place is needed."""
    for request in held_requests():
        if request.message is message:
            state.task_ready(request)
