"""kombu's Redis transports, less one weakness: an entry of a queue that is no message ends the worker."""

from __future__ import annotations

import logging
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis, virtual

from storage import counters

logger = logging.getLogger(__name__)

#: Longest body taken, in characters: a pointer has about 200, an answer to remote control some thousands.
_LARGEST_BODY = 1_000_000


class Message(virtual.Message):
    """A message; making one raises ValueError for what none of our senders would have sent."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            if len(payload.get("body") or "") > _LARGEST_BODY:
                raise ValueError("its body is too long")
            # kombu would unpack it here, however long it then is.
            if (payload.get("headers") or {}).get("compression"):
                raise ValueError("its body is compressed")
            super().__init__(payload, channel=channel, **kwargs)  # type: ignore[no-untyped-call]
            names = (self.delivery_tag, self.delivery_info["exchange"], self.delivery_info["routing_key"])
            if not all(isinstance(name, str) for name in names):
                raise ValueError("its envelope has no names")
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("it is no envelope") from error


class _Unharmed:
    """Drops what cannot be read; if it was a pointer, its chunk is sent again."""

    Message = Message

    def _brpop_read(self, **options: Any) -> Any:
        return self._or_drop(super()._brpop_read, **options)  # type: ignore[misc]

    def _receive_one(self, client: Any) -> Any:
        return self._or_drop(super()._receive_one, client)  # type: ignore[misc]

    @staticmethod
    def _or_drop(read: Any, *args: Any, **options: Any) -> Any:
        try:
            return read(*args, **options)
        except (ValueError, RecursionError) as error:
            counters.count("messages_unreadable")
            logger.warning("dropped a message that cannot be read (%s)", type(error).__name__)
            raise Empty from error


class _Channel(_Unharmed, redis.Channel):
    pass


class _SentinelChannel(_Unharmed, redis.SentinelChannel):
    pass


class Transport(redis.Transport):
    """For `redis://`, `rediss://` and `redis+socket://`."""

    Channel = _Channel


class SentinelTransport(redis.SentinelTransport):
    """For `sentinel://`."""

    Channel = _SentinelChannel


def install() -> None:
    """Have this process take these transports for every URL of Redis; the URLs themselves cannot name a class."""
    TRANSPORT_ALIASES.update({scheme: "worker.transport:Transport" for scheme in ("redis", "rediss")})
    TRANSPORT_ALIASES["sentinel"] = "worker.transport:SentinelTransport"
