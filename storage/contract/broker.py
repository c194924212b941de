"""The Celery settings both sides share, as a plain dict; each side builds its own app from it.

Redis carries pointers only and may lose, double or delay any of them (the database is the truth), so nothing here
asks Celery for reliability it does not have: no result backend, no retries, no ETA, no revoke.
"""

from __future__ import annotations

from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry

from storage.contract.redisurl import redis_tls
from storage.contract.sentinel import SentinelURL, is_sentinel

TASK_NAME = "embedmill.embed_chunk"

#: What `send_task` is told beside: else it spells out, in each message's header, what its body says too.
UNSAID = {"argsrepr": "", "kwargsrepr": ""}

#: Everything of ours in Redis begins so; an ACL user needs no other keys.
KEY_PREFIX = "embedmill:"

#: Channel on which the ends of jobs are hinted; the message is their ids, with spaces between.
FINISHED_CHANNEL = f"{KEY_PREFIX}finished"


def broker_url(redis_url: str) -> str:
    """Return the URL as kombu spells it: `unix://` is `redis+socket://` there, and each Sentinel has one of its own."""
    if is_sentinel(redis_url):
        return SentinelURL.parse(redis_url).for_kombu()
    scheme, _, rest = redis_url.partition("://")
    if scheme == "unix":
        return f"redis+socket://{rest}"
    return redis_url.partition("?")[0]


def celery_settings(redis_url: str) -> dict[str, Any]:
    """Return the settings of a Celery app that consumes from the Redis at `redis_url`."""
    return {
        "broker_url": broker_url(redis_url),
        # Said in full: kombu takes a `rediss://` without options as one whose certificate nobody looks at.
        "broker_use_ssl": redis_tls(redis_url),
        # The state of a job is SQL; a result in Redis would be a second truth.
        "result_backend": None,
        "task_ignore_result": True,
        # JSON only: a message can never make a worker run code.
        "task_serializer": "json",
        "accept_content": ["json"],
        # Acknowledging gives a place for the next message back, so it comes after the commit.
        "task_acks_late": True,
        # The chunk of a process that died comes back by its lease; its message would only be dropped.
        "task_reject_on_worker_lost": False,
        # What is tried again, and when, is decided in the database.
        "task_acks_on_failure_or_timeout": True,
        # A chunk that waits behind a slow one inside a worker is latency: hold none but the running ones.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        # A blip of Redis takes nothing from work whose result goes to the database.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # The log is ours (storage/logs.py).
        "worker_hijack_root_logger": False,
        # Nobody listens to events; each would be a message more for every chunk.
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        # Redis may be away for as long as it likes, also at the start.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # What Redis refuses (out of memory, a replica, a full disk) passes too; else the worker would end.
        "broker_channel_error_retry": True,
        "broker_connection_timeout": 5,
        # One try: whoever sends puts the chunk back to pending, and the reconciler sends it again.
        "task_publish_retry": False,
        # Where a message lands that names no queue; none of ours.
        "task_default_queue": "embedmill",
        "broker_transport_options": _transport_options(redis_url),
    }


def _transport_options(redis_url: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "global_keyprefix": KEY_PREFIX,
        # Read by nobody; but kombu takes connections that differ in this alone for the same, and shares them.
        "secured_by": redis_tls(redis_url),
        # No copy of a message under way is kept in Redis: the lease says who has a chunk, and the reconciler sends
        # again what nobody has. A copy costs two more writes for each message, is refused when Redis is full, and a
        # write that fails took a place for messages away for good (a worker alive that consumes nothing).
        "ack_emulation": False,
        # Without it a half-open connection is waited on for ever; longer than any BRPOP.
        "socket_timeout": 5,
        "socket_connect_timeout": 5,
        # A wait for a message that ran out because Redis was slow is waited for again.
        "retry_on_timeout": True,
        # How long a BRPOP may stay unanswered before its connection counts as dead.
        "health_check_interval": 5,
    }
    if is_sentinel(redis_url):
        sentinels = SentinelURL.parse(redis_url)
        options |= {"master_name": sentinels.service, "sentinel_kwargs": ask_sentinels(sentinels, 2)}
    return options


def ask_sentinels(sentinels: SentinelURL, timeout: float) -> dict[str, Any]:
    """Return how a Sentinel is asked: once, as there are others, where redis-py would ask four times in seconds.

    Args:
        sentinels: Whom to ask.
        timeout: Longest wait for a connection and for an answer, in seconds.
    """
    patience = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": Retry(NoBackoff(), 0)}
    return patience | sentinels.asking()


def sender_settings(redis_url: str) -> dict[str, Any]:
    """Return the settings of a Celery app that only sends: one look at Redis, and a short one.

    What cannot be sent now is sent by the reconciler, and somebody waits for the call to return.
    """
    settings = celery_settings(redis_url)
    # A time-out is tried again by neither redis-py nor kombu; an idle connection is not looked at before it is used.
    short = {"max_retries": 0, "socket_timeout": 1, "socket_connect_timeout": 1, "retry_on_timeout": False}
    transport = settings["broker_transport_options"] | short | {"health_check_interval": 0}
    if "sentinel_kwargs" in transport:
        transport["sentinel_kwargs"] = ask_sentinels(SentinelURL.parse(redis_url), 0.5)
    return settings | {"broker_connection_timeout": 1, "broker_transport_options": transport}
