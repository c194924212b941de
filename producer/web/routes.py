"""How the page's routes fail: as a page that says what is wrong, or at the sign-in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from producer.api.errors import status_of
from producer.web.rendering import page
from storage.contract.errors import EmbedmillError, Unauthorized


class PageRoute(APIRoute):
    """A route that answers errors of ours with a page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which lets no error of ours through."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except Unauthorized:
                return RedirectResponse(f"/signin?next={quote(_asked(request))}", 303)
            except EmbedmillError as error:
                return page(request, "problem", code=status_of(error), error=error)

        return handle


def _asked(request: Request) -> str:
    """Return where to go after signing in: the page that was asked for; after a form, the list."""
    if request.method != "GET":
        return "/"
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")
