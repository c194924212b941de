"""The workers' Celery app; `celery -A worker.app inspect ping` reaches every worker on the same Redis.

Nothing connects at import; the broker's URL comes from the environment as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from storage.contract.broker import TASK_NAME, celery_settings
from storage.contract.errors import QueueUnavailable
from storage.contract.messages import Pointer
from worker.settings import WorkerSettings

app: Any = Celery("embedmill-worker", include=["worker.tasks"])
_settings = celery_settings(WorkerSettings.load().redis)
app.conf.update(_settings | {"worker_consumer": "worker.consumer:Consumer"})

# Sending tries once, where consuming tries for ever: what cannot be sent now is sent by the reconciler.
_sender: Any = Celery("embedmill-worker-sender", set_as_current=False)
_transport = _settings["broker_transport_options"] | {"max_retries": 0}
_sender.conf.update(_settings | {"broker_transport_options": _transport})


def send(pointers: Sequence[Pointer], queue: str) -> None:
    """Send pointers to a queue.

    Args:
        pointers: Each becomes one message.
        queue: Name of the queue.

    Raises:
        QueueUnavailable: When Redis cannot be reached; some of the messages may have been sent.
    """
    try:
        for pointer in pointers:
            _sender.send_task(TASK_NAME, kwargs=pointer.to_message(), queue=queue)
    except (OperationalError, OSError) as error:
        raise QueueUnavailable("Redis cannot be reached.", "Check EMBEDMILL_REDIS_URL.") from error
