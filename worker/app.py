"""The workers' Celery app; `celery -A worker.app inspect ping` reaches every worker on the same Redis.

Nothing connects at import; the broker's URL comes from the environment as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from storage.contract.broker import TASK_NAME, UNSAID, celery_settings, sender_settings
from storage.contract.messages import Pointer
from storage.redisclient import queue_unavailable
from worker import transport
from worker.settings import WorkerSettings

transport.install()
_redis = WorkerSettings.load().redis
app: Any = Celery("embedmill-worker", include=["worker.tasks"])
app.conf.update(celery_settings(_redis) | {"worker_consumer": "worker.consumer:Consumer"})

# Sending tries once, where consuming tries for ever: what cannot be sent now is sent by the reconciler.
_sender: Any = Celery("embedmill-worker-sender", set_as_current=False)
_sender.conf.update(sender_settings(_redis))


def send(pointers: Sequence[Pointer], queue: str) -> None:
    """Send pointers to a queue.

    Args:
        pointers: Each becomes one message.
        queue: Name of the queue.

    Raises:
        QueueUnavailable: When Redis cannot be reached or refuses; some of the messages may have been sent.
    """
    try:
        for pointer in pointers:
            _sender.send_task(TASK_NAME, kwargs=pointer.to_message(), queue=queue, **UNSAID)
    except (OperationalError, OSError) as error:
        raise queue_unavailable(error) from error
