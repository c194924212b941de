"""The outermost layer of the service: nothing leaves it without its headers, and no error with what was sent in it."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterable
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.api.errors import answer, form_path, unforeseen
from producer.api.metrics import Metrics, is_probe, route_of
from storage import logs, tracing
from storage.contract.errors import ServiceUnavailable

logger = logging.getLogger(__name__)

#: A caller's own request id is taken when it is of this form.
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: Programs never show an answer of the API; should a browser do so, then nothing in it runs.
_POLICY_API = b"default-src 'none'; frame-ancestors 'none'"
_POLICY_PAGE = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    b" form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

#: Longest time in which a reader takes nothing of what waits for him, in seconds.
SEND_SECONDS = 120.0

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    # With `no-referrer` a browser would hide the origin of the page's own forms, too.
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """Counts every request, names it, dresses every answer, and answers what nobody else did.

    Args:
        app: What is guarded.
        metrics: Where requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        headers = Headers(scope=scope)
        caller = tracing.called(headers.get("traceparent"), headers.get("tracestate"))
        with logs.about(request_id=exchange.id), caller:
            await self._pass(scope, exchange)

    async def _pass(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            # Nobody is there to be answered: no story for a log.
            return
        except asyncio.CancelledError:
            # The service stops. Who still waits is told so in words that he knows, and comes again to another one.
            if not exchange.status:
                stopped = ServiceUnavailable("The service is being stopped.", "Ask again in a moment.")
                told = answer(stopped, path=form_path(scope["method"], scope["path"]))
                await told(scope, exchange.receive, exchange.send)
        except Exception as error:
            told = unforeseen(error, form_path(scope["method"], scope["path"]))
            if not exchange.status:
                await told(scope, exchange.receive, exchange.send)
        finally:
            seconds = time.monotonic() - exchange.began
            self._metrics.count(scope, exchange.status, seconds, exchange.received, exchange.sent)
            # Of what is not ready each probe would tell anew.
            if exchange.status >= 500 and not is_probe(scope):
                logger.info("%s answered %d", route_of(scope), exchange.status)


class _Exchange:
    """One request and its answer, on their way through."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        self.id = given if _ID.fullmatch(given) else uuid4().hex
        self.began = time.monotonic()
        self.status = self.received = self.sent = 0
        self._receive, self._send = receive, send

    async def receive(self) -> Message:
        message = await self._receive()
        self.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": _dressed(message.get("headers", ()), self.id.encode())}
        self.sent += len(message.get("body", b""))
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send(message)
        except TimeoutError:
            # Who does not read is not waited for; to us he has gone.
            raise ClientDisconnect from None


def _dressed(headers: Iterable[tuple[bytes, bytes]], request_id: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer with ours beside; what a route has set itself stays."""
    dressed = list(headers)
    given = {name.lower(): value for name, value in dressed}
    policy = _POLICY_PAGE if given.get(b"content-type", b"").startswith(b"text/html") else _POLICY_API
    ours = (*_ALWAYS, (b"content-security-policy", policy), (b"x-request-id", request_id))
    return dressed + [(name, value) for name, value in ours if name not in given]
