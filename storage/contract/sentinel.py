"""The URL of a Redis that Sentinel looks after: `redis+sentinel://[user:password@]host:port,host:port/SERVICE[/DB]`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

SCHEME = "redis+sentinel"

#: Where a Sentinel listens when the URL names no port.
_PORT = 26379

#: What a URL looks like, for messages.
EXAMPLE = f"{SCHEME}://host1:26379,host2:26379,host3:26379/SERVICE"


@dataclass(frozen=True, slots=True)
class SentinelURL:
    """What such a URL says.

    Args:
        hosts: The Sentinels, each with its port.
        service: What the Sentinels call the primary.
        db: Number of the database.
        user: Name at the primary, or None; the Sentinels are asked without one.
        password: Word at the primary, or None.
    """

    hosts: tuple[tuple[str, int], ...]
    service: str
    db: int = 0
    user: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, url: str) -> SentinelURL:
        """Return what a URL says.

        Raises:
            ValueError: When it is no such URL; says how to write it.
        """
        scheme, _, rest = url.partition("://")
        place, _, path = rest.partition("/")
        login, _, names = place.rpartition("@")
        service, _, db = path.partition("/")
        hosts = tuple(_host(name) for name in names.split(","))
        if scheme != SCHEME or not service or not (db or "0").isdecimal():
            raise ValueError(f"write it like {EXAMPLE} or {EXAMPLE}/DB, DB being a number")
        user, _, password = (unquote(part) for part in login.partition(":"))
        return cls(hosts, unquote(service), int(db or 0), user or None, password or None)

    def for_kombu(self) -> str:
        """Return it as kombu spells it: a whole URL for each Sentinel, as any of them may be the one in use."""
        login = ""
        if self.user or self.password:
            login = f"{quote(self.user or '', safe='')}:{quote(self.password or '', safe='')}@"
        places = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return ";".join(f"sentinel://{login}{place}/{self.db}" for place in places)


def _host(name: str) -> tuple[str, int]:
    parts = urlsplit(f"//{name}")
    port = _PORT if parts.port is None else parts.port
    if not parts.hostname or not port:
        raise ValueError(f"write it like {EXAMPLE}: each Sentinel is a host and its port")
    return parts.hostname, port
