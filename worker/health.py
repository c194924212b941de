"""Two addresses for whoever watches this machine: `/healthz` (it runs) and `/readyz` (it can serve)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from storage.contract.errors import AddressInUse

Readiness = Callable[[], tuple[bool, dict[str, str]]]


class HealthServer:
    """Answers health checks in a thread.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        readiness: Returns whether this machine can serve, and each part's state in words.

    Raises:
        AddressInUse: When another program has the port.
    """

    def __init__(self, host: str, port: int, readiness: Readiness) -> None:
        class Handler(_Handler):
            answer = staticmethod(readiness)

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise AddressInUse(
                f"Port {port} on {host} cannot be listened on: {error.strerror}.",
                "Choose another with --port (of a worker: --health-port).",
            ) from error
        self._server.daemon_threads = True

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


class _Handler(BaseHTTPRequestHandler):
    answer: Readiness

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._send(200, {"status": "alive"})
        elif self.path == "/readyz":
            ready, parts = self.answer()
            self._send(200 if ready else 503, {"status": "ready" if ready else "not ready", **parts})
        else:
            self._send(404, {"status": "unknown address", "addresses": "/healthz /readyz"})

    def _send(self, code: int, body: dict[str, str]) -> None:
        data = json.dumps(body).encode() + b"\n"
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a probe comes every few seconds."""
