"""HTTP on the wire, with what uvicorn leaves open: how long and how large a head may be, and answers to HTTP/1.0."""

from __future__ import annotations

import asyncio
import json

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from producer.api.errors import body_of
from storage.contract.errors import EmbedmillError, InvalidOption, TooLarge

#: Longest time from a request's first byte, or from the connection, to the end of its headers, in seconds.
HEAD_SECONDS = 10.0

#: Largest head of a request: its line and all headers, in bytes. As much may come in its body that is none of it, such
#: as headers behind its last piece: whoever reads them keeps them all.
HEAD_BYTES = 64_000


def _refusal(status: str, error: EmbedmillError) -> bytes:
    """Return a whole answer, made before any request was understood: in the words of our own routes."""
    body = json.dumps(body_of(error)).encode()
    headers = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
    return f"HTTP/1.1 {status}\r\n{headers}\r\n".encode() + body


_TOO_LARGE = _refusal("431 Request Header Fields Too Large", TooLarge("The head of the request is too large."))
_NO_REQUEST = _refusal(
    "400 Bad Request", InvalidOption("This is no request of HTTP, or its address has more than 65,000 bytes.")
)


class PatientNoLonger(HttpToolsProtocol):
    """Ends connections whose requests begin too slowly or with too much; speaks HTTP/1.0 where that is asked for."""

    _head_bytes = 0
    _in_head = True
    # Since the head, or the last piece of the body.
    _loose_bytes = 0
    _in_body = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count: whoever connects has something to ask."""
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock with the connection."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head grows too large, or what is no part of a body within it."""
        self._loose_bytes += len(data)
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
        found = self._head_bytes if self._in_head else self._loose_bytes if self._in_body else 0
        if found > HEAD_BYTES and not self.transport.is_closing():
            if self.cycle is None or not self.cycle.response_started:
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what could not be read, and end the connection."""
        self.transport.write(_NO_REQUEST)
        self.transport.close()

    def on_message_begin(self) -> None:
        """Begin to count anew with each request of a connection."""
        super().on_message_begin()
        if not self._in_head:
            self._begin_head()

    def on_headers_complete(self) -> None:
        """Stop the clock."""
        self._end_head()
        self._loose_bytes, self._in_body = 0, True
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0" and self.cycle is not None:
            # In time: the application only begins once the event loop is free.
            self.cycle.send = UntilClosed(self.cycle).send  # type: ignore[method-assign, assignment]

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body on."""
        self._loose_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        self._in_body = False
        super().on_message_complete()

    def _begin_head(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _end_head(self) -> None:
        self._in_head = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


class UntilClosed:
    """Answers as HTTP/1.0 has it: what has no length ends with the connection, and does not come in pieces with sizes.

    Args:
        cycle: The request and its answer.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._has_length = True

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on.

        Args:
            message: As the application sends it.
        """
        if message["type"] == "http.response.start":
            self._has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if not self._has_length:
                self._cycle.chunked_encoding = False
        elif not self._has_length:
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)  # type: ignore[arg-type]
