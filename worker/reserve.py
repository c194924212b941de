"""Keeps one task thread free for urgent messages: bulk ones are not asked for while they hold all the others."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from celery.worker import state
from kombu.utils.scheduling import priority_cycle

#: Task threads of a worker process: four for bulk, so that reading, tokenizing and writing overlap, and one for urgent.
BULK_THREADS = 4
TASK_THREADS = BULK_THREADS + 1

#: kombu's name for the class below (`queue_order_strategy`).
STRATEGY = "worker.reserve:UrgentFirst"


class UrgentFirst(priority_cycle):
    """Asks for urgent messages first, and for bulk ones only while fewer than `BULK_THREADS` of them are held."""

    def consume(self, n: int) -> list[str]:
        """Return the queues to wait on, best first.

        Args:
            n: How many of them are active.
        """
        queues = sorted(self.items[:n], key=_is_bulk)
        held = sum(_is_bulk(_queue_of(request)) for request in held_requests())
        return queues if held < BULK_THREADS else [queue for queue in queues if not _is_bulk(queue)]


def held_requests() -> list[Any]:
    """Return the messages that this process has taken and not done with."""
    while True:
        # Celery's set, from which other threads take while it is walked through; Celery would end the process.
        with suppress(RuntimeError):
            return list(state.reserved_requests)


def _is_bulk(queue: str) -> bool:
    return not queue.endswith(".urgent")


def _queue_of(request: Any) -> str:
    return str((request.delivery_info or {}).get("routing_key", ""))
