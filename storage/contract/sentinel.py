"""The URL of a Redis that Sentinel looks after: `redis+sentinel://[user:password@]host:port,host:port/SERVICE[/DB]`.

`rediss+sentinel://` is the same over TLS, to the Sentinels too. After a question mark: what `redistls` knows, and
`sentinel_username`, `sentinel_password` where the Sentinels ask for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from storage.contract.redistls import query_of, tls_options

SCHEMES = ("redis+sentinel", "rediss+sentinel")

#: Where a Sentinel listens when the URL names no port.
_PORT = 26379

#: What a URL looks like, for messages.
EXAMPLE = f"{SCHEMES[0]}://host1:26379,host2:26379,host3:26379/SERVICE"


@dataclass(frozen=True, slots=True)
class SentinelURL:
    """What such a URL says.

    Args:
        hosts: The Sentinels, each with its port.
        service: What the Sentinels call the primary.
        db: Number of the database.
        user: Name at the primary, or None.
        password: Word at the primary, or None.
        sentinel_user: Name at the Sentinels, or None.
        sentinel_password: Word at the Sentinels, or None.
        tls: How connections are secured, as redis-py's options; None: not.
    """

    hosts: tuple[tuple[str, int], ...]
    service: str
    db: int = 0
    user: str | None = None
    password: str | None = None
    sentinel_user: str | None = None
    sentinel_password: str | None = None
    tls: dict[str, Any] | None = None

    @classmethod
    def parse(cls, url: str) -> SentinelURL:
        """Return what a URL says.

        Raises:
            ValueError: When it is no such URL; says how to write it.
        """
        scheme, _, rest = url.partition("://")
        place, _, path = rest.partition("/")
        login, _, names = place.rpartition("@")
        path, _, query = path.partition("?")
        service, _, db = path.partition("/")
        hosts = tuple(_host(name) for name in names.split(","))
        if scheme not in SCHEMES or not service or not (db or "0").isdecimal():
            raise ValueError(f"write it like {EXAMPLE} or {EXAMPLE}/DB, DB being a number")
        user, _, password = (unquote(part) for part in login.partition(":"))
        given = query_of(query, ("sentinel_username", "sentinel_password"))
        return cls(
            hosts,
            unquote(service),
            int(db or 0),
            user or None,
            password or None,
            given.get("sentinel_username"),
            given.get("sentinel_password"),
            tls_options(scheme, given),
        )

    def for_kombu(self) -> str:
        """Return it as kombu spells it: a whole URL for each Sentinel, as any of them may be the one in use."""
        login = ""
        if self.user or self.password:
            login = f"{quote(self.user or '', safe='')}:{quote(self.password or '', safe='')}@"
        places = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return ";".join(f"sentinel://{login}{place}/{self.db}" for place in places)

    def asking(self) -> dict[str, Any]:
        """Return with what the Sentinels themselves are connected to, as redis-py's options."""
        login = {"username": self.sentinel_user, "password": self.sentinel_password}
        given = {name: value for name, value in login.items() if value is not None}
        return given if self.tls is None else given | {"ssl": True, **self.tls}


def is_sentinel(url: str) -> bool:
    """Whether a URL is one of these."""
    return url.partition("://")[0] in SCHEMES


def _host(name: str) -> tuple[str, int]:
    parts = urlsplit(f"//{name}")
    port = _PORT if parts.port is None else parts.port
    if not parts.hostname or not port:
        raise ValueError(f"write it like {EXAMPLE}: each Sentinel is a host and its port")
    return parts.hostname, port
