"""Asks a Redis what its user may do, without doing any of it.

Of a right that is missing Celery says only that it lost its connection.
"""

from __future__ import annotations

from collections.abc import Iterator

import redis

from storage.contract.broker import FINISHED_CHANNEL, KEY_PREFIX

_KEY = f"{KEY_PREFIX}rights"

#: What a worker and the reconciler beside it send, Celery's scripts included. In a transaction that is never executed.
_WORKER: tuple[tuple[str, ...], ...] = (
    ("PING",),
    ("INFO", "server"),
    ("LLEN", _KEY),
    ("LPUSH", _KEY, "0"),
    ("BRPOP", _KEY, "1"),
    ("SADD", _KEY, "0"),
    ("SREM", _KEY, "0"),
    ("SMEMBERS", _KEY),
    ("ZADD", _KEY, "0", "0"),
    ("ZREM", _KEY, "0"),
    ("ZRANGEBYSCORE", _KEY, "0", "0"),
    ("EXISTS", _KEY),
    ("DEL", _KEY),
    ("TIME",),
    ("EVALSHA", "0" * 40, "1", _KEY),
    ("SCRIPT", "LOAD", "return 0"),
    ("SCRIPT", "EXISTS", "0" * 40),
    ("PUBLISH", FINISHED_CHANNEL, ""),
    ("PSUBSCRIBE", f"{KEY_PREFIX}/{{db}}.celery.pidbox"),
    ("PUNSUBSCRIBE", f"{KEY_PREFIX}/{{db}}.celery.pidbox"),
)

#: What the service sends, and whoever submits beside it.
_PRODUCER: tuple[tuple[str, ...], ...] = (
    ("PING",),
    ("LLEN", _KEY),
    ("LPUSH", _KEY, "0"),
    ("SADD", _KEY, "0"),
    ("PUBLISH", FINISHED_CHANNEL, ""),
    ("SUBSCRIBE", FINISHED_CHANNEL),
)

#: Who has a user of its own, and what it sends.
SENT = {"worker": _WORKER, "producer": _PRODUCER}

#: Without any of these nobody takes a message, and so nobody who lacks all of them is meant to.
_TAKING = {"+brpop", "+del", "+evalsha"}


def side_of(client: redis.Redis) -> str:
    """Return whose user this is: `producer` where it may push messages and take none by any means, else `worker`.

    Raises:
        redis.RedisError: When it cannot be asked.
    """
    lacking = set(missing_rights(client))
    return "producer" if lacking >= _TAKING and "+lpush" not in lacking else "worker"


def missing_rights(client: redis.Redis, side: str = "worker") -> list[str]:
    """Return what a user may not do, as `ACL SETUSER` would grant it; empty when it may do everything.

    Args:
        client: See `storage.redisclient.redis_client`.
        side: Whose user it is meant to be: `worker` or `producer`.

    Raises:
        redis.RedisError: When it cannot be asked.
    """
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        return list(dict.fromkeys(_denied(connection, SENT[side], int(getattr(connection, "db", 0)))))
    finally:
        # Whatever was begun on it ends here.
        connection.disconnect()  # type: ignore[no-untyped-call]
        pool.release(connection)


def _denied(connection: redis.Connection, sent: tuple[tuple[str, ...], ...], db: int) -> Iterator[str]:
    for command in ("MULTI", "EXEC"):
        if _refusal(connection, [command]):
            yield f"+{command.lower()}"
    if _refusal(connection, ["MULTI"]):
        return
    for words in sent:
        said = [word.format(db=db) for word in words]
        if refusal := _refusal(connection, said):
            command = "|".join(said[:2]) if said[0] == "SCRIPT" else said[0]
            place = {"key": f"~{KEY_PREFIX}*", "channel": f"&{' '.join(said[1:2])}"}
            yield next((right for name, right in place.items() if name in refusal), f"+{command.lower()}")


def _refusal(connection: redis.Connection, words: list[str]) -> str:
    """Send a command; return why its user may not do so, empty when he may."""
    connection.send_command(*words)  # type: ignore[no-untyped-call]
    try:
        connection.read_response()
    except redis.exceptions.ResponseError as error:
        # Out of memory, or a replica, is told by another finding. EXEC is refused by an error of its own.
        return str(error) if "permissions" in str(error) else ""
    return ""
