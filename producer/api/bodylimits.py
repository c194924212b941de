"""Bodies of requests, held to their limits while they come: bytes, time, encoding, depth, values."""

from __future__ import annotations

import asyncio
import json
import time

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.api import uploading
from producer.api.auth import Caller, caller_of
from producer.api.bodies import JSON
from producer.api.bodyroom import BodyRoom
from producer.api.bodysizes import BodyKind, BodyKinds
from producer.api.errors import answer, form_path
from producer.api.heads import is_routed
from producer.api.settings import ApiSettings
from producer.jsonsizes import JSONSize, is_within, measured
from storage.contract.errors import EmbedmillError, TooLarge, TooSlow, Unauthorized, Unreadable, UnsupportedMedia

#: A body comes at this rate at least, once its longest silence is over, in bytes a second; one that may have any length
#: only where it would keep others from their place. One that keeps others from room in memory comes faster.
_SLOWEST, _SLOWEST_CROWDING = 1_000, 100_000

#: What a caller still sends after it was refused is thrown away for so long, and so far; else he may never read why.
_DRAIN_SECONDS, _DRAIN_BYTES = 5.0, 64_000_000

#: Methods whose routes look at no body.
_BODILESS = ("GET", "HEAD", "OPTIONS")

#: Looking through larger bodies is left to a thread, in bytes.
_LONG = 200_000


class BodyLimits:
    """Refuses bodies that are too large, too slow, compressed, nested too deeply, of too many values, or of nobody.

    Args:
        app: What is guarded.
        settings: Say what is allowed.
        room: The memory for bodies that are read as a whole.
    """

    def __init__(self, app: ASGIApp, settings: ApiSettings, room: BodyRoom) -> None:
        self._app = app
        self._kinds = BodyKinds(settings)
        self._seconds = settings.body_seconds
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] != "http" or not _has_body(headers := Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        body = _Body(receive, self._kinds.kind_of(scope), self._seconds, self._room)
        try:
            await self._pass(headers, body, scope, receive, send)
        finally:
            body.forget()

    async def _pass(self, headers: Headers, body: _Body, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = await self._refusal(headers, body, scope)
        if refusal is not None:
            body.forget()
            await _refuse(refusal, scope, receive, send)
            return
        gate = _Gate(send, body)
        try:
            await self._app(scope, body.receive, gate.send)
        except Exception:
            # What comes of a body that was cut short is told by why it was.
            if body.refusal is None:
                raise
        if body.refusal is not None and not gate.started:
            body.forget()
            await _refuse(body.refusal, scope, receive, send)

    async def _refusal(self, headers: Headers, body: _Body, scope: Scope) -> EmbedmillError | None:
        """Read a body where it is read before its route is called, and return why it is refused, if it is."""
        try:
            _check_encoding(headers)
            body.check_length(headers.get("content-length"))
            if body.kind.whole:
                _check_media(headers, scope)
                caller = await _reader(scope)
                if caller is not None:
                    await body.read_whole(caller.key_id)
                    await _check_json(headers, body)
        except EmbedmillError as error:
            # Its traceback would keep what was read for as long as the rest is thrown away.
            return error.with_traceback(None)
        return None


def _check_media(headers: Headers, scope: Scope) -> None:
    found = headers.get("content-type", "").partition(";")[0].strip().lower()
    # What nobody answers is told as such, whatever was sent there.
    if found != JSON and not found.endswith("+json") and is_routed(scope):
        raise UnsupportedMedia(f"The Content-Type must be {JSON}.", "Name it in the header.")


async def _reader(scope: Scope) -> Caller | None:
    """Return for whom a body is read before its route is called: only where a route wants it, of one who may ask.

    Nobody fills this machine's memory who has no key, not even by a little on each of many connections.

    Raises:
        Unauthorized: When keys are needed and the request has none that is good.
    """
    if scope["method"] in _BODILESS:
        return None
    try:
        return await caller_of(Request(scope))
    except Unauthorized:
        if is_routed(scope):
            raise
        return None


class _Body:
    """A body on its way in."""

    def __init__(self, receive: Receive, kind: BodyKind, seconds: float, room: BodyRoom) -> None:
        self.kind = kind
        self.data = b""
        #: Why it was cut short, once it was.
        self.refusal: EmbedmillError | None = None
        self._receive = receive
        self._seconds = seconds
        self._room = room
        self._memory = room.body()
        self._received = 0
        self._waited = 0.0
        self._ended = False
        self._kept: Message | None = None

    def check_length(self, declared: str | None) -> None:
        """Refuse at once what is too large by how long it says itself that it is.

        Raises:
            TooLarge: When it is.
        """
        said = int(declared) if declared is not None and declared.isdigit() else None
        if said is not None and self.kind.most is not None and said > self.kind.most:
            raise self._too_large()

    def forget(self) -> None:
        """Let go of it, and give back the room that it took."""
        self.data = b""
        self._kept = None
        self._memory.leave()

    async def read_whole(self, key_id: str) -> None:
        """Read all of it.

        Args:
            key_id: The key of who sends it; empty where no keys are used.

        Raises:
            TooLarge: When there is too much.
            TooSlow: When it comes too slowly.
            Overloaded: When there is no room for it now.
        """
        self._memory = self._room.body(key_id)
        parts = bytearray()
        while not self._ended:
            message = await self._next()
            if message["type"] != "http.request":
                self._kept = message
                return
            block = message.get("body", b"")
            self._memory.add(len(block), block.count(b":"))
            parts += block
        self.data = bytes(parts)
        self._kept = {"type": "http.request", "body": self.data, "more_body": False}

    async def receive(self) -> Message:
        """Return what comes next; a body that is refused looks like a connection that was cut."""
        if self._kept is not None:
            message, self._kept = self._kept, None
            # What the route is done with should be gone, and not be held here beside what was made of it.
            self.data = b""
            return message
        if self.refusal is not None:
            return {"type": "http.disconnect"}
        if self._ended:
            return await self._receive()
        try:
            return await self._next()
        except EmbedmillError as error:
            self.refusal = error
            return {"type": "http.disconnect"}

    async def _next(self) -> Message:
        began = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), self._seconds)
        except TimeoutError as error:
            raise TooSlow("The body stopped coming.", "Send it without long pauses.") from error
        self._waited += time.monotonic() - began
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        self._received += len(message.get("body", b""))
        if self.kind.most is not None and self._received > self.kind.most:
            raise self._too_large()
        slowest = self._slowest()
        if slowest and self._waited > self._seconds + self._received / slowest:
            raise TooSlow("The body comes too slowly.", "Send less at a time.")
        return message

    def _slowest(self) -> int:
        """Return how many bytes of it must come a second; none where it may take its time."""
        if self._memory.crowds:
            return _SLOWEST_CROWDING
        return _SLOWEST if self.kind.most is not None or uploading.places.is_crowded else 0

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body has more than the {self.kind.most:,} bytes allowed.", "Send less at a time.")


class _Gate:
    """Lets no answer out that was made of a body that was cut short."""

    def __init__(self, send: Send, body: _Body) -> None:
        self.started = False
        self._send = send
        self._body = body

    async def send(self, message: Message) -> None:
        if self._body.refusal is not None and not self.started:
            return
        self.started = True
        await self._send(message)


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _check_encoding(headers: Headers) -> None:
    """Refuse compressed bodies: a small one may become larger than this machine."""
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMedia("Compressed bodies are not read.", "Send it as it is, without Content-Encoding.")


async def _check_json(headers: Headers, body: _Body) -> None:
    media = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        return
    if len(body.data) > _LONG:
        await asyncio.to_thread(_check_size, body.data, body.kind.json)
    else:
        _check_size(body.data, body.kind.json)


def _check_size(data: bytes, most: JSONSize) -> None:
    """Refuse JSON that would become far larger than it is; what is no JSON is the parser's, as far as it is safe."""
    # Parsers read other encodings too, of which the marks that are counted mean something else.
    if not json.detect_encoding(data).startswith("utf-8"):
        raise Unreadable("The JSON is not in UTF-8.", "Send it in UTF-8.")
    if is_within(data, most):
        return
    if measured(data).depth > most.depth:
        raise Unreadable("The JSON is nested too deeply, or is none.", "Send it flat.")
    raise TooLarge("The JSON has more values, or more named ones, than any request here needs.", "Send less at a time.")


async def _refuse(error: EmbedmillError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, then throw away for a while what still comes, then hang up."""
    refusal = answer(error, path=form_path(scope["method"], scope["path"]))
    headers = [*refusal.raw_headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": refusal.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": bytes(refusal.body), "more_body": True})
    thrown = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while thrown < _DRAIN_BYTES:
                message = await receive()
                thrown += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    break
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})
