"""A client of the Redis that one of our URLs names, for all that is no message."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from storage.contract.broker import ask_sentinels
from storage.contract.errors import QueueUnavailable
from storage.contract.sentinel import SCHEME, SentinelURL


def redis_client(redis_url: str, timeout: float = 2.0) -> redis.Redis:
    """Return a client; it connects when it is first used.

    Args:
        redis_url: `redis://`, `rediss://`, `unix://` or `redis+sentinel://`.
        timeout: Longest wait for a connection and for an answer, in seconds.
    """
    # A connection that has lain idle may have been closed: one new one is tried at once. redis-py's own default is
    # three, with seconds in between; and what did not answer in time would only be waited for again.
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    if not redis_url.startswith(f"{SCHEME}://"):
        return redis.Redis.from_url(redis_url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=retry)
    url = SentinelURL.parse(redis_url)
    times = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": retry}
    asking = ask_sentinels(timeout / len(url.hosts))
    sentinels: Any = Sentinel(url.hosts, sentinel_kwargs=asking, **times)  # type: ignore[no-untyped-call]
    client: redis.Redis = sentinels.master_for(url.service, db=url.db, username=url.user, password=url.password)
    return client


def queue_unavailable(error: BaseException) -> QueueUnavailable:
    """Return in our words why a message could not be sent.

    Args:
        error: What was raised; its cause is what Redis said.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, redis.RedisError):
        cause = cause.__cause__ or cause.__context__
    match cause:
        case redis.exceptions.OutOfMemoryError():
            return QueueUnavailable("Redis is out of memory and takes no messages.", "Raise its maxmemory.")
        case redis.ReadOnlyError():
            remedy = "Name its primary in EMBEDMILL_REDIS_URL, or its Sentinels."
            return QueueUnavailable("Redis is a read-only replica and takes no messages.", remedy)
        case redis.AuthenticationError() | redis.exceptions.NoPermissionError():
            remedy = "Check the user and the password in EMBEDMILL_REDIS_URL, and what that user may do."
            return QueueUnavailable("Redis does not let this user send messages.", remedy)
        case redis.ResponseError():
            return QueueUnavailable("Redis refuses messages.", "Its log says why; a full disk is the commonest reason.")
    return QueueUnavailable("Redis cannot be reached.", "Check EMBEDMILL_REDIS_URL.")
