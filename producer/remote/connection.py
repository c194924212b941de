"""Requests to the service: with the key, tried again where that is safe, and failures as our own exceptions."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from producer.remote.failures import failure_of, object_of, retry_after
from producer.remote.patience import Patience
from storage import tracing
from storage.causes import causes
from storage.contract.errors import InvalidOption, ServiceUnavailable, Unauthorized

#: The longest that a connection may take, and that nothing may come on one, in seconds.
_CONNECT, _SILENCE = 10.0, 60.0

#: The longest that a service is sought that has never answered, in seconds: the address may well be wrong.
_FIRST_PATIENCE = 5.0

#: Answers after which the same request may succeed, whoever gave them; of the others no try is worth anything.
_PASSING = frozenset({429, 502, 503, 504})

#: What a request fails with before any of it was sent.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Connection:
    """Speaks with one service; may be used by several threads.

    Args:
        url: Where the service is, such as `http://host:8000`, or with a path before its own.
        api_key: Sent with every request, or None.
        retry_for: Seconds for which a request that may be repeated is tried again.

    Raises:
        InvalidOption: When the address is none, or the environment names certificates or a proxy that cannot be used.
        Unauthorized: When the key cannot be one.
    """

    def __init__(self, url: str, api_key: str | None, retry_for: float) -> None:
        self.place = _checked_place(url)
        #: The address as requests take it: before the `/v1` of every path.
        self.url = _without_version(url)
        headers = {"Accept": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {_checked_key(api_key)}"
        self._retry_for = retry_for
        self._was_reached = False
        with _environment():
            self._http = httpx.Client(
                base_url=self.url,
                headers=headers,
                event_hooks={"request": [lambda request: request.headers.update(tracing.outgoing())]},
                timeout=httpx.Timeout(_SILENCE, connect=_CONNECT),
            )

    def close(self) -> None:
        """Close what is open."""
        self._http.close()

    def patience(self) -> Patience:
        """Return how long the next request is tried."""
        return Patience(self._retry_for if self._was_reached else min(self._retry_for, _FIRST_PATIENCE))

    def ask(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool = True,
        done: int | None = None,
        patience: Patience | None = None,
        **request: Any,
    ) -> httpx.Response:
        """Send a request and return the answer, its body read.

        Args:
            method: HTTP's.
            path: From `/v1` on.
            repeatable: Whether it may be sent again when nobody knows whether it has arrived.
            done: The status that tells, of a request sent again, that an earlier try had done it.
            patience: How long it is tried; default: as long as was asked for.
            **request: As httpx takes it: `params`, `json`, `content`, `headers`.

        Raises:
            EmbedmillError: What the service says, as the class that it is over storage.
            ServiceUnavailable: When it cannot be reached, or what stands before it does not reach it.
        """
        patience = patience or self.patience()
        while True:
            try:
                response = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                if not (repeatable or isinstance(error, _UNSENT)) or not patience.lasts():
                    raise self.unreachable(error) from error
                continue
            self._was_reached = True
            if response.is_success or (patience.tries and response.status_code == done):
                return response
            if not self._may_pass(response, repeatable) or not patience.lasts(retry_after(response)):
                raise failure_of(response)

    def told(self, method: str, path: str, needed: Mapping[str, type], **request: Any) -> dict[str, Any]:
        """Send a request and return the JSON object that the service answers.

        Args:
            method: HTTP's.
            path: From `/v1` on.
            needed: Names that the object has for certain, with their types.
            **request: As for `ask`.

        Raises:
            EmbedmillError: As for `ask`.
            ServiceUnavailable: As for `ask`, and when what answers is no Embedmill service.
        """
        return object_of(self.ask(method, path, **request), needed)

    @contextlib.contextmanager
    def stream(self, path: str, silence: float = _SILENCE, **request: Any) -> Iterator[httpx.Response]:
        """Send a GET once and hand out the answer while its body comes.

        Args:
            path: From `/v1` on.
            silence: Longest time in which nothing comes, in seconds.
            **request: As httpx takes it.

        Raises:
            EmbedmillError: As for `ask`.
            httpx.TransportError: When the connection breaks, or nothing comes.
        """
        timeout = httpx.Timeout(silence, connect=_CONNECT)
        with self._http.stream("GET", path, timeout=timeout, **request) as response:
            self._was_reached = True
            if not response.is_success:
                response.read()
                raise failure_of(response)
            yield response

    def unreachable(self, error: Exception) -> ServiceUnavailable:
        """Return what is raised when the service does not answer."""
        why, remedy = _why(error)
        return ServiceUnavailable(f"The service at {self.place} cannot be reached: {why}.", remedy)

    @staticmethod
    def _may_pass(response: httpx.Response, repeatable: bool) -> bool:
        if response.status_code == 429:  # which says that nothing was done
            return retry_after(response) is not None
        return repeatable and response.status_code in _PASSING


def _why(error: Exception) -> tuple[str, str]:
    """Return why a service was not reached, and what to do; of what failed only the kind: its words may hold a text."""
    for cause in causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                told = f"its certificate is not accepted ({cause.verify_message.rstrip('.')})"
                return told, "Name the file of who signed it in SSL_CERT_FILE, or call it by its own name."
            case ssl.SSLError():
                return "it does not speak TLS there, or another kind of it", "Look whether it is http:// that is meant."
            case socket.gaierror():
                return "its name is not known here", "Look whether the address is right."
            case ConnectionRefusedError():
                return "nothing listens there", "Look whether it runs and the address is right."
            case httpx.TimeoutException():
                return "it does not answer in time", "Look whether it hangs, and whether a firewall drops what is sent."
    return type(error).__name__, "Look whether it runs and the address is right."


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Say which variable is to blame when httpx refuses what the environment names."""
    try:
        yield
    except ImportError as error:
        raise InvalidOption(
            "The environment names a SOCKS proxy (ALL_PROXY), and the package for that is missing.",
            "Install it: pip install 'httpx[socks]', or name the service's host in NO_PROXY.",
        ) from error
    except OSError as error:
        raise InvalidOption(
            "The certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read.",
            "Name a file of certificates in PEM that this user may read, or unset it.",
        ) from error
    except (ValueError, httpx.InvalidURL) as error:
        raise InvalidOption(
            "The environment names a proxy (HTTP_PROXY, HTTPS_PROXY or ALL_PROXY) that is no address.",
            "Write it like http://host:3128, or unset it.",
        ) from error


def _without_version(url: str) -> str:
    """Return an address without the `/v1` at its end that other clients want, and ours puts there itself."""
    bare = url.strip().rstrip("/")
    return bare.removesuffix("/v1").rstrip("/") if urlsplit(bare).path.endswith("/v1") else bare


def _checked_place(url: str) -> str:
    """Return scheme, host and port of an address, without a name or password in it."""
    try:
        parts = urlsplit(url.strip())
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        parts, port = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidOption("The url is no address of a service.", "Write it like http://host:8000.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}"


def _checked_key(api_key: str) -> str:
    key = api_key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Unauthorized("The API key is none: it holds characters that no key has.", "Give it as it was printed.")
    return key
