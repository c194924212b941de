"""Bodies of any length, handed block by block from the event loop to a thread that works on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

from producer.api.shares import Shares
from producer.patience import Patience, of_sender

T = TypeVar("T")

#: Bodies that are taken in at a time; more are asked to come again.
_MOST = 32

#: Blocks that wait for the thread; whoever sends is held back by more.
_WAITING = 8

#: Bytes that are still read when nobody wants them any more: who writes all before he reads would else see no answer.
_DRAINED = 16_000_000

#: How often it is asked whether a sender is still there who waits for his answer, in seconds.
_ASK_AGAIN = 1.0

#: Seconds after which a body may be sent again that found no room.
_RETRY = 5

# Threads of their own: a slow sender holds one for long, and must not keep other requests from theirs.
_threads = ThreadPoolExecutor(_MOST, "upload")

#: Their places. Where more than half are taken, those who send slowly are no longer waited for, nor those who wait.
places = Shares(_MOST, ("Too many bodies are being read just now.", "Send it again in a moment.", _RETRY))

#: Whose patience was ended to make room and who have not left yet: one at a time, so that no more are than need be.
_leaving: set[asyncio.Future[Any]] = set()


class Cut(Exception):
    """Raised in the thread when the body ends before its end: whatever it began must be undone."""


async def taken_in(
    key_id: str,
    blocks: AsyncIterator[bytes],
    take: Callable[[Iterator[bytes]], T],
    is_gone: Callable[[], Awaitable[bool]] | None = None,
) -> T:
    """Return what a function makes of a body's blocks; it runs in a thread and need not read all of them.

    Args:
        key_id: The key of who sends it; empty where no keys are used.
        blocks: The body. Whatever it raises is raised here, and `Cut` in the thread.
        take: Works on the blocks.
        is_gone: Whether the sender has gone, after the body; where it is given, he has patience (see `patience.py`),
            unless his place is wanted by others.

    Raises:
        Overloaded: When too many bodies are being taken in.
    """
    places.take(key_id)
    pipe = _Pipe(asyncio.get_running_loop())

    def work() -> T:
        try:
            return take(pipe.blocks())
        finally:
            pipe.close()

    patience = Patience()
    context = copy_context()
    context.run(of_sender.set, patience if is_gone is not None else None)
    working = asyncio.get_running_loop().run_in_executor(_threads, context.run, work)

    def ended(done: asyncio.Future[T]) -> None:
        places.leave(key_id)
        _leaving.discard(done)
        if not done.cancelled():
            # The thread may outlive the request, and its error then has nobody else who asks for it.
            done.exception()

    working.add_done_callback(ended)
    try:
        unread = 0
        async for block in blocks:
            unread += 0 if await pipe.feed(block) else len(block)
            if unread > _DRAINED:
                break
        pipe.end(None)
    except BaseException:
        pipe.end(Cut())
        raise
    try:
        while not (await asyncio.wait({working}, timeout=_ASK_AGAIN))[0]:
            if is_gone is None:
                continue
            if await is_gone():
                patience.end()
            elif places.is_crowded and not _leaving:
                _leaving.add(working)
                patience.end()
    finally:
        # The service stops, or he has his answer.
        patience.end()
    return working.result()


class _Pipe:
    """A few blocks between an event loop and a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._room = asyncio.Semaphore(_WAITING)
        self._queue: SimpleQueue[bytes | Cut | None] = SimpleQueue()
        self._closed = False

    async def feed(self, block: bytes) -> bool:
        """Hand a block on, when there is room; return whether anybody wants it."""
        await self._room.acquire()
        if self._closed:
            self._room.release()
            return False
        self._queue.put(block)
        return True

    def end(self, cut: Cut | None) -> None:
        """Say that there is no more, or that there should have been."""
        self._queue.put(cut)

    def blocks(self) -> Iterator[bytes]:
        """Yield the blocks, in the thread."""
        while (block := self._queue.get()) is not None:
            if isinstance(block, Cut):
                raise block
            self._call(self._room.release)
            yield block

    def close(self) -> None:
        """Say, in the thread, that no more blocks are wanted."""

        def closed() -> None:
            self._closed = True
            self._room.release()

        self._call(closed)

    def _call(self, function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(function)
