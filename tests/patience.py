"""Senders who wait long for Redis, for tests of what it answers: a busy machine is not to be taken for a silence."""

from __future__ import annotations

from typing import Any

from storage.contract.broker import ask_sentinels, sender_settings
from storage.contract.sentinel import SentinelURL


def patiently(url: str, seconds: float = 60) -> dict[str, Any]:
    """Return a sender's settings with which a Redis that answers may take its time.

    Args:
        url: Where it is; or its Sentinels, who may take theirs too.
        seconds: The longest that nothing may come.
    """
    settings = sender_settings(url)
    transport = settings["broker_transport_options"] | {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    if "sentinel_kwargs" in transport:
        transport["sentinel_kwargs"] = ask_sentinels(SentinelURL.parse(url), seconds)
    return settings | {"broker_connection_timeout": seconds, "broker_transport_options": transport}
