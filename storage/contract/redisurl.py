"""The URL of a Redis-protocol server, of any kind that there is: is it one, and how are its connections secured?"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from storage.contract.redistls import check_files, query_of, tls_options
from storage.contract.sentinel import EXAMPLE, SentinelURL, is_sentinel

_FORMS = f"redis://host:6379/0, rediss://host:6379/0, unix:///folder/redis.sock or {EXAMPLE}"


def checked_redis_url(url: str) -> str:
    """Return a URL that can be meant; nothing connects.

    Raises:
        ValueError: When it cannot, or a file it names cannot be read; says how to write it.
    """
    if not is_sentinel(url):
        parts = urlsplit(url)  # which raises ValueError, as does the port, for what is no number
        if parts.scheme not in ("redis", "rediss", "unix") or parts.port == 0:
            raise ValueError(f"write it like {_FORMS}")
    check_files(redis_tls(url))
    return url


def redis_tls(url: str) -> dict[str, Any] | None:
    """Return how connections to a Redis are secured, as redis-py's options; None: not.

    Raises:
        ValueError: When the URL's parameters do not fit.
    """
    if is_sentinel(url):
        return SentinelURL.parse(url).tls
    scheme, _, rest = url.partition("://")
    return None if scheme == "unix" else tls_options(scheme, query_of(rest.partition("?")[2]))
