"""Why a service cannot be reached, in words that say what to do."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from producer.remote.connection import Connection
from storage.contract.errors import ServiceUnavailable
from tests.machines.authority import Authority
from tests.stack import free_port


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy stands between, and no authority is believed that this machine names."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def _listening(context: ssl.SSLContext | None) -> Iterator[int]:
    """Give the port of a server that greets with TLS, or answers whatever comes with what is no TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    wire, _ = server.accept()
                    with suppress(OSError), wire:
                        if context is not None:
                            context.wrap_socket(wire, server_side=True).close()
                        else:
                            wire.recv(1000)
                            wire.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _why(url: str) -> str:
    connection = Connection(url, None, retry_for=0)
    with pytest.raises(ServiceUnavailable) as caught:
        connection.ask("GET", "/healthz")
    connection.close()
    return str(caught.value)


def test_a_certificate_that_nobody_here_trusts_is_told_as_such(tmp_path: Path) -> None:
    # Given a service whose certificate is signed by an authority of its own
    certificate = Authority(tmp_path).certify("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    with _listening(context) as port:
        # When it is asked, then it is said why that cannot be, and what to do
        told = _why(f"https://127.0.0.1:{port}")
        assert "certificate is not accepted (unable to get local issuer" in told and "SSL_CERT_FILE" in told


def test_a_service_without_tls_is_told_as_such() -> None:
    with _listening(None) as port:
        assert "does not speak TLS" in _why(f"https://127.0.0.1:{port}")


def test_a_port_without_a_service_and_a_name_without_an_address_are_told_as_such() -> None:
    port = free_port()
    assert f"http://[::1]:{port} cannot be reached: " in _why(f"http://[::1]:{port}")
    assert f"http://127.0.0.1:{port} cannot be reached: nothing listens there" in _why(f"http://127.0.0.1:{port}")
    assert "its name is not known here" in _why("http://mill.invalid:8000")
