"""The producer's hand on the queue: its own Celery app, used only to send pointers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from storage.contract.broker import TASK_NAME, UNSAID, sender_settings
from storage.contract.errors import QueueUnavailable
from storage.contract.messages import Pointer
from storage.redisclient import queue_unavailable
from storage.rest import Rest


class Queue:
    """Sends pointers to Redis through Celery; may be used by several threads.

    Args:
        redis_url: The Redis-protocol server; not connected to before something is sent.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._rest = Rest()
        self._lock = threading.Lock()
        self._app: Any = None

    def send(self, pointers: Sequence[Pointer], queue: str) -> None:
        """Send pointers.

        Args:
            pointers: Each becomes one message.
            queue: Name of the queue.

        Raises:
            QueueUnavailable: When Redis cannot be reached or refuses; some of the messages may have been sent.
        """
        if self._rest.due:
            raise QueueUnavailable("Redis cannot be reached.", "It did not answer a moment ago.")
        app = self._celery()
        from kombu.exceptions import OperationalError

        try:
            with self._rest.noting():
                for pointer in pointers:
                    app.send_task(TASK_NAME, kwargs=pointer.to_message(), queue=queue, **UNSAID)
        except (OperationalError, OSError) as error:
            raise queue_unavailable(error) from error

    def prepare(self) -> None:
        """Load and make all that the first message needs, so that nobody waits for it; connects nowhere."""
        app = self._celery()
        # Loaded where they are first looked at: what makes messages, and what carries them.
        with app.connection_for_write() as connection:
            _ = app.amqp.send_task_message, app.AsyncResult, app.backend, connection.transport

    def _celery(self) -> Any:
        # Celery's package puts another in its own place while it is imported: a second thread would find half of it.
        with self._lock:
            if self._app is None:
                from celery import Celery  # which costs a third of a second, and only here

                app = Celery("embedmill-producer", set_as_current=False)
                app.conf.update(sender_settings(self._redis_url))
                self._app = app
            return self._app

    def close(self) -> None:
        """Close the connections."""
        if self._app is not None:
            self._app.close()
            self._app = None
