"""The HTTP service on a real port, in a thread of the test's own process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI

from producer.api.app import create_app
from producer.api.server import Server, configured
from producer.api.service import Service
from producer.api.settings import ApiSettings
from producer.listening import address_of, take_port

_Result = TypeVar("_Result")

#: Longest start, in seconds.
_START = 90


@dataclass(frozen=True, slots=True)
class Served:
    """A running service.

    Args:
        url: Where it answers, without a slash at the end.
        app: The application, for what cannot be seen from outside.
        loop: The event loop that it runs in.
    """

    url: str
    app: FastAPI
    loop: asyncio.AbstractEventLoop

    @property
    def service(self) -> Service:
        """What its routes work with."""
        service: Service = self.app.state.service
        return service

    def loop_call(self, function: Callable[[], None]) -> None:
        """Call something in the service's own thread.

        Args:
            function: What is called.
        """
        self.loop.call_soon_threadsafe(function)

    def http(self, key: str | None = None) -> httpx.Client:
        """Return an HTTP client of it.

        Args:
            key: The API key that it sends, or None.
        """
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


def awaited(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Return what a coroutine returns; a browser that is open keeps the test's own thread from running any."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


@contextmanager
def serving(settings: ApiSettings) -> Iterator[Served]:
    """Serve until the end of the block.

    Args:
        settings: What is served; its port is not used, a free one is taken.
    """
    app = create_app(settings)
    loops: list[asyncio.AbstractEventLoop] = []
    server = Server(configured(app), app, lambda: loops.append(asyncio.get_running_loop()))
    listening = take_port("127.0.0.1", 0)
    url = address_of("127.0.0.1", listening)
    thread = threading.Thread(target=server.run, args=([listening],), name="uvicorn", daemon=True)
    thread.start()
    deadline = time.monotonic() + _START
    while not loops:
        assert thread.is_alive() and time.monotonic() < deadline, "the service did not start"
        time.sleep(0.01)
    try:
        yield Served(url, app, loops[0])
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the service did not stop"
