"""HEAD for whatever has a GET: the same headers, and nothing after them."""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What the routing tells whoever stands outside of it.
_TOLD = ("route", "endpoint", "path_params")


class Heads:
    """Sends HEAD to the route of GET, where there is none of its own, and ends the answer after its headers.

    RFC 9110, 9.1: a general-purpose server answers HEAD wherever it answers GET; load balancers and monitors ask so.

    Args:
        app: What answers GET.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or is_routed(scope):
            await self._app(scope, receive, send)
            return

        async def send_headers(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
                return
            await send({"type": "http.response.body", "body": b""})
            if message.get("more_body"):
                # Nobody waits for the rest: a stream would go on for hours, a file would be read for nothing.
                raise ClientDisconnect

        as_get = {**scope, "method": "GET"}
        try:
            await self._app(as_get, receive, send_headers)
        finally:
            scope.update({name: as_get[name] for name in _TOLD if name in as_get})


def is_routed(scope: Scope) -> bool:
    """Tell whether a route answers a request's path and method.

    Args:
        scope: The request's.
    """
    return any(route.matches(scope)[0] is Match.FULL for route in scope["app"].router.routes)
