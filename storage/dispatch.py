"""Fills the free window of a model's queues: marks chunks as sent, then has them sent; anybody may call it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence

from storage import tracing
from storage.chunks import ChunkStore
from storage.contract import failpoints
from storage.contract.errors import QueueUnavailable
from storage.contract.messages import Pointer
from storage.contract.models import Priority, queue_name

logger = logging.getLogger(__name__)

#: Sends pointers to a queue, all or nothing; raises QueueUnavailable.
Send = Callable[[Sequence[Pointer], str], None]


def dispatch_next(
    chunks: ChunkStore, send: Send, model: str, model_id: str, priorities: Collection[Priority] = tuple(Priority)
) -> int:
    """Send what a model should do next, urgent chunks first, as far as its windows have room.

    A crash between marking and sending leaves chunks that look sent; the reconciler takes them back.

    Args:
        chunks: The store of chunks.
        send: Sends to Redis.
        model: The model's name, for the queue's name.
        model_id: The model identity.
        priorities: Which of its queues; default: all.

    Returns:
        How many messages were sent.

    Raises:
        QueueUnavailable: When Redis cannot be reached; the chunks are pending again.
    """
    sent = 0
    for priority in sorted(priorities, reverse=True):
        pointers = chunks.dispatch(model_id, priority)
        send_marked(chunks, send, pointers, queue_name(model, model_id, priority))
        sent += len(pointers)
    return sent


def send_marked(chunks: ChunkStore, send: Send, pointers: Sequence[Pointer], queue: str) -> None:
    """Send chunks that have just been marked as sent.

    Args:
        chunks: The store of chunks.
        send: Sends to Redis.
        pointers: What was marked; may be empty.
        queue: The queue's name.

    Raises:
        QueueUnavailable: When Redis cannot be reached; the chunks are pending again.
    """
    if not pointers:
        return
    failpoints.reach("dispatch.marked")
    begin = time.time_ns()
    try:
        send(pointers, queue)
    except QueueUnavailable:
        chunks.undispatch(pointers)
        raise
    if tracing.spans is not None:
        tracing.spans.dispatched(pointers, begin)
    failpoints.reach("dispatch.sent")
