"""Which addresses a webhook may have: what is sent there leaves this machine, so that it must not reach its inside."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from storage.contract.errors import InvalidOption

#: Longest address of a webhook, in characters.
_LONGEST = 2_000


def checked_url(url: object, allowed: frozenset[str] = frozenset()) -> str:
    """Return the address of a webhook as it was given.

    Args:
        url: What a caller gave.
        allowed: Hosts, or `host:port`, that may be anywhere and need no TLS.

    Raises:
        InvalidOption: When nothing may be sent there; names no part of the address, which may hold a password.
    """
    remedy = "Give an https:// address on a public host; EMBEDMILL_WEBHOOK_HOSTS lists others that are allowed."
    if not isinstance(url, str):
        raise InvalidOption(f"The webhook's address must be a text, not {type(url).__name__}.", remedy)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidOption("The webhook's address is no URL.", remedy) from error
    if len(url) > _LONGEST or not url.isascii() or any(character <= " " for character in url):
        raise InvalidOption("The webhook's address is too long, or holds what no URL does.", remedy)
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise InvalidOption("The webhook's address is no https:// URL.", remedy)
    if parts.username is not None or parts.fragment:
        raise InvalidOption("The webhook's address must have no user and no fragment.", remedy)
    if is_allowed(parts, allowed):
        return url
    if parts.scheme != "https":
        raise InvalidOption("The webhook's address has no TLS.", remedy)
    if "." not in parts.hostname and ":" not in parts.hostname:
        raise InvalidOption("The webhook's host is none of the public network.", remedy)
    if _is_number(parts.hostname) and not is_public(parts.hostname):
        raise InvalidOption("The webhook's address is none of the public network.", remedy)
    return url


def is_allowed(parts: SplitResult, allowed: frozenset[str]) -> bool:
    """Whether an address is one of those that may be anywhere."""
    host = (parts.hostname or "").lower()
    return host in allowed or f"{host}:{parts.port}" in allowed


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public network, and leads to no other inside it."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is not None:
            return is_public(str(inner))
        if ip.teredo is not None or ip.scope_id is not None:
            return False
    if any(ip in network for network in _INSIDE):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


#: What is no place of the public network whatever this Python's own lists say, which differ: addresses of IPv4 as a
#: translator writes them, those of a site, of protocols (a cloud's metadata among them), of documents.
_INSIDE = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "fec0::/10", "3fff::/20", "192.0.0.0/24")))


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
