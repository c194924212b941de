"""Answers that take up room until they are sent: it is given back in the end, and no slow reader keeps it for days."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send


class Held(StreamingResponse):
    """An answer that takes up room until it was sent, its reader has gone, or he has taken too long over it.

    Args:
        content: Its bytes.
        leave: Gives the room back.
        seconds: Longest time that it may take to be read.
        headers: Its headers.
        status: Its status.
    """

    def __init__(
        self,
        content: Iterator[bytes],
        leave: Callable[[], None],
        seconds: float,
        headers: dict[str, str],
        status: int = 200,
    ) -> None:
        super().__init__(content, status, headers)
        self._leave = leave
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            async with asyncio.timeout(self._seconds):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            # Cut off: an end would say that this was all.
            raise ClientDisconnect from None
        finally:
            self._leave()
