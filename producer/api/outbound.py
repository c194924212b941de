"""Sends one message out: to the address that was checked, without following, reading or keeping what is answered."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from urllib.parse import urlsplit

from storage.contract.errors import EmbedmillError, InvalidOption
from storage.contract.webhookurls import checked_url, is_allowed, is_public

#: Longest time of one step of a try, such as to connect, and of a whole try, in seconds.
_STEP, _WHOLE = 10.0, 20.0


class NotDelivered(EmbedmillError):
    """Raised when nothing was answered, or what is no success."""

    code = "not_delivered"

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


def send(url: str, body: bytes, headers: dict[str, str], allowed: frozenset[str]) -> int:
    """Send a message and return the status it was answered with, which is 200 to 299.

    Args:
        url: Where to; judged anew, since what is allowed may have changed.
        body: What is sent.
        headers: What goes before it.
        allowed: Hosts that may be anywhere and need no TLS.

    Raises:
        NotDelivered: When that did not work; tells no part of address, body or answer.
    """
    try:
        parts = urlsplit(checked_url(url, allowed))
    except InvalidOption as error:
        raise NotDelivered(error.message) from error
    anywhere = is_allowed(parts, allowed)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    kind = _Https if parts.scheme == "https" else _Http
    connection = kind(parts.hostname or "", port, timeout=_STEP)
    connection.anywhere = anywhere
    # Each step has its own limit; one that answers a letter at a time would else hold us for hours.
    clock = threading.Timer(_WHOLE, connection.abort)
    clock.daemon = True
    clock.start()
    try:
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        connection.request("POST", path, body, headers)
        status = connection.getresponse().status
    except NotDelivered:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotDelivered(_words(error)) from error
    finally:
        clock.cancel()
        connection.close()
    if not 200 <= status < 300:
        raise NotDelivered(f"It was answered with {status}.", status)
    return status


class _Http(http.client.HTTPConnection):
    """A connection that is made to an address that was checked, not to whatever the name means a moment later."""

    anywhere = False
    _aborted = False

    def connect(self) -> None:
        """Connect to the first address that may be connected to."""
        self.sock = self._checked_socket()
        self._check_time()

    def abort(self) -> None:
        """End it from another thread."""
        self._aborted = True
        sock = self.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def _check_time(self) -> None:
        """End here what was ended while its name was looked up, or TLS began, and there was no socket to be closed."""
        if self._aborted:
            raise TimeoutError

    def _checked_socket(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise NotDelivered("The host's name cannot be resolved.") from error
        addresses = [str(place[4][0]) for place in found]
        fit = [address for address in addresses if self.anywhere or is_public(address)]
        if not fit:
            raise NotDelivered("The host has no address on the public network.")
        return self._connected(fit)

    def _connected(self, addresses: list[str]) -> socket.socket:
        """Connect to the first address that answers: of several hosts one may be down, and IPv6 lead nowhere."""
        *others, last = addresses
        for address in others:
            try:
                return socket.create_connection((address, self.port), self.timeout)
            except OSError:
                self._check_time()
        return socket.create_connection((last, self.port), self.timeout)


class _Https(_Http):
    """The same with TLS; the certificate must be the name's, whatever the address."""

    def connect(self) -> None:
        """Connect and greet."""
        self.sock = self._checked_socket()
        self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)
        self._check_time()


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "It did not answer in time."
    if isinstance(error, ssl.SSLError):
        return "Its certificate, or its TLS, is not good."
    if isinstance(error, ConnectionRefusedError):
        return "It refused the connection."
    return "It could not be reached, or did not answer in HTTP."
