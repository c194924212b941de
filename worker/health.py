"""Addresses for whoever watches this machine: `/healthz` (it runs), `/readyz` (it can serve), `/metrics`."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from storage.contract.errors import AddressInUse, ServerError
from storage.exposition import CONTENT_TYPE

#: Longest wait for the words of whoever has connected, in seconds: each connection has a thread.
_PATIENCE = 10.0


class Watched(Protocol):
    """What is watched."""

    def liveness(self) -> tuple[bool, dict[str, str]]:
        """Return whether it does anything at all, and what does not: where that is false, it is to be started anew."""

    def readiness(self) -> tuple[bool, dict[str, str]]:
        """Return whether this machine can serve, and each part's state in words."""

    def metrics(self, everything: bool = False) -> bytes:
        """Return the machine's figures in Prometheus' text format, or everything: the installation's too."""


class HealthServer:
    """Answers health checks in a thread.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        watched: What it tells of.

    Raises:
        AddressInUse: When another program has the port.
    """

    def __init__(self, host: str, port: int, watched: Watched) -> None:
        handler = type("Handler", (_Handler,), {"watched": watched, "timeout": _PATIENCE})
        self._host = host
        try:
            self._server = _server_of(host)((host, port), handler)
        except OSError as error:
            raise AddressInUse(
                f"Port {port} on {host} cannot be listened on: {error.strerror}.",
                "Choose another with --port (of a worker: --health-port).",
            ) from error

    @property
    def url(self) -> str:
        """`http://host:port`, with brackets around an IPv6 address."""
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self.port}"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()


def _server_of(host: str) -> type[ThreadingHTTPServer]:
    """Return the server for an address of its family; Python's own knows IPv4 alone."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return type("_Server", (ThreadingHTTPServer,), {"address_family": family, "daemon_threads": True})


class _Handler(BaseHTTPRequestHandler):
    watched: Watched

    def handle(self) -> None:
        """Answer, unless whoever asked has gone: where all is busy a probe gives up, and nobody is left to be told."""
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        if self.path == "/healthz":
            lives, parts = self.watched.liveness()
            self._send(200 if lives else 503, {"status": "alive" if lives else "hangs", **parts})
        elif self.path == "/readyz":
            ready, parts = self.watched.readiness()
            self._send(200 if ready else 503, {"status": "ready" if ready else "not ready", **parts})
        elif self.path in ("/metrics", "/metrics/all"):
            self._send_metrics(self.path == "/metrics/all")
        else:
            self._send(404, {"status": "unknown address", "addresses": "/healthz /readyz /metrics /metrics/all"})

    def _send_metrics(self, everything: bool) -> None:
        try:
            self._send_bytes(200, self.watched.metrics(everything), CONTENT_TYPE)
        except ServerError as error:
            self._send(503, {"status": error.message})

    def _send(self, code: int, body: dict[str, str]) -> None:
        self._send_bytes(code, json.dumps(body).encode() + b"\n", "application/json")

    def _send_bytes(self, code: int, data: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a probe comes every few seconds."""
