"""Looks at a Redis for what makes it lose messages, refuse them or be slow: nothing is lost by it, but time is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from storage.redisclient import queue_unavailable
from worker.brokerrights import missing_rights

#: Oldest version that has every command kombu sends (ZADD GT, and ZRANGE BYSCORE).
OLDEST = (6, 2)

#: Share of its memory from which a Redis counts as nearly full.
NEARLY_FULL = 0.7


def findings(client: redis.Redis) -> list[str]:
    """Return what is wrong with a Redis, each with what to do; the same words as long as it is the same.

    Args:
        client: See `storage.redisclient.redis_client`; not every user may ask everything, which is no finding.
    """
    try:
        about: dict[str, Any] = client.info()
    except redis.exceptions.NoPermissionError:
        return ["Redis does not let this user look at it (INFO): grant +info, or nobody is warned before it is full."]
    except (redis.RedisError, OSError) as error:
        why = queue_unavailable(error)
        return [f"{why.message.rstrip('.')} ({type(error).__name__}): jobs are safe and wait. {why.remedy}"]
    return [
        *_of_rights(client), *_of_version(about), *_of_role(about), *_of_memory(about), *_of_persistence(client, about)
    ]  # fmt: skip


def _of_rights(client: redis.Redis) -> Iterator[str]:
    try:
        missing = missing_rights(client)
    except (redis.RedisError, OSError):
        return
    if missing:
        yield (
            f"Redis' user lacks rights, and without them workers take no messages: grant {' '.join(missing)} "
            "(docs/many-machines.md has the whole line)."
        )


def _of_version(about: dict[str, Any]) -> Iterator[str]:
    version = str(about.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if len(numbers) == 2 and numbers < OLDEST:
        yield f"Redis is of version {version}, and Celery needs {OLDEST[0]}.{OLDEST[1]}: upgrade it."


def _of_role(about: dict[str, Any]) -> Iterator[str]:
    if about.get("role") == "slave":
        yield "Redis is a replica and takes no messages: name its primary, or its Sentinels (redis+sentinel://...)."


def _of_memory(about: dict[str, Any]) -> Iterator[str]:
    policy, limit = about.get("maxmemory_policy", "noeviction"), int(about.get("maxmemory", 0))
    if policy != "noeviction":
        yield (
            f"Redis throws messages away when it is full (maxmemory-policy {policy}); they are sent again, later: "
            "set maxmemory-policy noeviction, and give Embedmill a Redis of its own."
        )
    if limit and int(about.get("used_memory", 0)) > NEARLY_FULL * limit:
        yield (
            f"Redis uses more than {NEARLY_FULL:.0%} of its maxmemory, and takes no messages when it is full: raise "
            "maxmemory, or remove what else it keeps; Embedmill's own messages are a few MB."
        )


def _of_persistence(client: redis.Redis, about: dict[str, Any]) -> Iterator[str]:
    if about.get("aof_enabled", 1):
        return
    try:
        snapshots: Any = client.config_get("save")
    except (redis.RedisError, OSError):
        return
    if not snapshots.get("save", "unknown"):
        yield (
            "Redis keeps nothing on disk: after its restart every message is sent again, which takes seconds: "
            "set appendonly yes."
        )
