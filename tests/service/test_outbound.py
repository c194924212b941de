"""Where a webhook's connection goes to."""

from __future__ import annotations

import http.server
import socket
import threading

import pytest

from producer.api import outbound


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_a_host_of_several_addresses_is_reached_by_whichever_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a name of two addresses, at the first of which nobody listens
    server = http.server.HTTPServer(("127.0.0.1", 0), _Answers)
    port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *given, **more: places if host == "mill" else real(host, *given, **more)
    )
    # When a message is sent there, then it arrives
    assert outbound.send(f"http://mill:{port}/hook", b"{}", {}, frozenset({"mill"})) == 204
    server.shutdown()
    server.server_close()
