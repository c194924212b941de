"""Runs the service in this process, on a socket that is bound already, until it is told to stop."""

from __future__ import annotations

import resource
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from producer.api.app import create_app
from producer.api.protocol import PatientNoLonger
from producer.api.settings import ApiSettings

#: How long an idle connection is kept for the next request, in seconds: longer than proxies keep theirs to us, mostly
#: 60, which would else send a request into one that is being closed.
_KEEP_ALIVE = 75

#: How long requests that are under way may go on after the service was told to stop, in seconds.
_GRACE = 10


def run(settings: ApiSettings, listening: socket.socket, started: Callable[[], None]) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; what is under way then is finished, streams of events end.

    Args:
        settings: What is served.
        listening: A bound socket.
        started: Called once it answers.

    Raises:
        StorageUnavailable: When the database cannot be reached.
        SchemaMismatch: When the database must be migrated, or this program upgraded.
    """
    _allow_many_connections()
    app = create_app(settings)
    server = Server(configured(app), app, started)
    # Uvicorn sends itself the signal again once it has stopped; then it means nothing any more.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        # The terminal is gone; not so under nohup.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    server.run(sockets=[listening])


def _allow_many_connections() -> None:
    """Take as many open files as this process may have: each connection is one, and by default there are few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def configured(app: FastAPI) -> uvicorn.Config:
    """Return how an app is served: no line a request, no header of a proxy believed, nobody waited for too long."""
    # No `limit_concurrency`: whoever opens that many connections would keep out probes and all others by it, while one
    # that sends nothing is closed after seconds, and one without a key has none of its body read.
    return uvicorn.Config(
        app,
        http=PatientNoLonger,
        ws="none",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )


class Server(uvicorn.Server):
    """Uvicorn's server; says when it answers, and ends streams when it stops.

    Args:
        config: How it serves.
        app: The application.
        started: Called once it answers.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, started: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._app = app
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        if self.started:
            self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: streams of events would else be waited for."""
        self._app.state.service.streams.close()
        await super().shutdown(sockets)
