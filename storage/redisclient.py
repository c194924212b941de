"""A client of the Redis that one of our URLs names, for all that is no message."""

from __future__ import annotations

import ssl
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from storage.causes import causes
from storage.contract.broker import ask_sentinels
from storage.contract.errors import QueueUnavailable
from storage.contract.redisurl import redis_tls
from storage.contract.sentinel import SentinelURL, is_sentinel

#: What is said where nobody answers.
UNREACHABLE = "Redis cannot be reached."


def redis_client(redis_url: str, timeout: float = 2.0) -> redis.Redis:
    """Return a client; it connects when it is first used.

    Args:
        redis_url: As `Settings.redis_url` takes it.
        timeout: Longest wait for a connection and for an answer, in seconds.
    """
    # A connection that has lain idle may have been closed: one new one is tried at once. redis-py's own default is
    # three, with seconds in between; and what did not answer in time would only be waited for again.
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    times = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": retry}
    tls = redis_tls(redis_url)
    if not is_sentinel(redis_url):
        bare = redis_url if tls is None else redis_url.partition("?")[0]
        return redis.Redis.from_url(bare, **times, **(tls or {}))
    url = SentinelURL.parse(redis_url)
    secured = {} if tls is None else {"ssl": True, **tls}
    asking = ask_sentinels(url, timeout / len(url.hosts))
    sentinels: Any = Sentinel(url.hosts, sentinel_kwargs=asking, **times, **secured)  # type: ignore[no-untyped-call]
    client: redis.Redis = sentinels.master_for(url.service, db=url.db, username=url.user, password=url.password)
    return client


def queue_unavailable(error: BaseException) -> QueueUnavailable:
    """Return in our words why a message could not be sent.

    Args:
        error: What was raised; its cause is what Redis said.
    """
    chain = list(causes(error))
    if untrusted := next((cause for cause in chain if isinstance(cause, ssl.SSLError)), None):
        return QueueUnavailable(*_of_tls(untrusted))
    match next((cause for cause in chain if isinstance(cause, redis.RedisError)), None):
        case redis.exceptions.OutOfMemoryError():
            return QueueUnavailable("Redis is out of memory and takes no messages.", "Raise its maxmemory.")
        case redis.ReadOnlyError():
            remedy = "Name its primary in EMBEDMILL_REDIS_URL, or its Sentinels."
            return QueueUnavailable("Redis is a read-only replica and takes no messages.", remedy)
        case redis.exceptions.NoPermissionError() as denied:
            told = f"Redis does not let this user send messages: {denied}."
            return QueueUnavailable(
                told, "Its rights are listed in docs/many-machines.md; `ACL LOG` shows the refusals."
            )
        case redis.AuthenticationError():
            remedy = "Check the user and the password in EMBEDMILL_REDIS_URL."
            return QueueUnavailable("Redis does not know this user, or the password is another.", remedy)
        case redis.RedisError() as denied if str(denied).startswith("DENIED"):
            remedy = "Give it users with passwords (docs/many-machines.md)."
            return QueueUnavailable("Redis lets nobody in from other machines (its protected mode).", remedy)
        case redis.ResponseError():
            return QueueUnavailable("Redis refuses messages.", "Its log says why; a full disk is the commonest reason.")
    if any(isinstance(cause, (ConnectionResetError, BrokenPipeError)) for cause in chain):
        # Who lacks a certificate may be cut off before he reads why.
        remedy = "It hung up: look whether it runs and speaks TLS, and whether Redis asks clients for a certificate."
        return QueueUnavailable(UNREACHABLE, remedy)
    return QueueUnavailable(UNREACHABLE, "Look whether it runs, and whether EMBEDMILL_REDIS_URL names it.")


def _of_tls(error: ssl.SSLError) -> tuple[str, str]:
    """Return what is wrong with a connection's certificate or its TLS, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        told = f"Redis' certificate is not accepted: {error.verify_message.rstrip('.')}."
        return told, "Give it one for this name and in its time, and name who signed it: ?ssl_ca_certs=FILE."
    told = f"Redis and this program do not agree on TLS: {(error.reason or 'unknown').replace('_', ' ').lower()}."
    return told, "Check the port in EMBEDMILL_REDIS_URL, and whether Redis asks clients for a certificate."
