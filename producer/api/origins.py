"""Without keys, who can send a request can do everything: so that no web page that a user visits can send one."""

from __future__ import annotations

import ipaddress
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from producer.api.errors import answer, form_path
from producer.api.settings import ApiSettings
from storage.contract.errors import ForeignRequest
from storage.contract.settings import listed

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^:\[\]/@]+)(:\d{1,5})?")

#: Methods that change nothing; to follow a link to the page must work. Without being seen, they may make this machine
#: compute all the same: as an image of another site's page, or in a frame.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

#: What browsers say of requests by nobody's page, or ours.
_OURS = ("none", "same-origin")

#: Whoever looks after machines calls these by whatever name; they tell nothing of anybody's.
_OPEN = frozenset({"/healthz", "/readyz", "/health", "/ping"})


class Origins:
    """Refuses requests that a browser sends on behalf of a foreign page, and those under a foreign name.

    A foreign name is how a page reaches this service as if it were its own: its host's name is made to mean this
    machine's address. A name that only this machine has, or a number, cannot be used so.

    Args:
        app: What is guarded.
        settings: Say under which names it may be called.
    """

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._names = listed(settings.hosts) | {settings.host.lower(), "localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in _OPEN:
            refused = self._refusal(scope)
            if refused is not None:
                await answer(refused, path=form_path(scope["method"], scope["path"]))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ForeignRequest | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) > 1 or (hosts and not self._is_ours(hosts[0], scope)):
            return ForeignRequest(
                "The service is not known under the name in the Host header.",
                "Call it by its address, or list the name in EMBEDMILL_HOSTS, or use keys.",
            )
        origins = headers.getlist("origin")
        if any(not hosts or _place(origin) != _bare(hosts[0]) for origin in origins):
            return ForeignRequest(
                "Another site's page sent this request.", "Programs may call it; pages of other sites may not."
            )
        follows = scope["method"] in _SAFE and _is_link(headers)
        if headers.get("sec-fetch-site", "none") not in _OURS and not follows:
            return ForeignRequest(
                "Another site's page sent this request.", "Programs may call it; pages of other sites may not."
            )
        return None

    def _is_ours(self, host: str, scope: Scope) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found["name"].strip("[]").lower().rstrip(".")
        if name in self._names or name.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # The address of this machine that the connection was made to.
        local = scope.get("server") or ("", None)
        return address.is_loopback or _same(address, str(local[0]))


def _is_link(headers: Headers) -> bool:
    """Whether a link to the page is followed: what is asked for takes the place of the other site's page, in sight."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _same(address: ipaddress.IPv4Address | ipaddress.IPv6Address, other: str) -> bool:
    try:
        found = ipaddress.ip_address(other)
    except ValueError:
        return False
    return address == (getattr(found, "ipv4_mapped", None) or found)


def _place(origin: str) -> str:
    """Return the host of an origin as a Host header names it; empty where it has none."""
    scheme, _, place = origin.partition("://")
    return _bare(place) if scheme in ("http", "https") else ""


def _bare(host: str) -> str:
    return host.lower().removesuffix(":80").removesuffix(":443")
