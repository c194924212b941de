"""The Celery settings both sides share, as a plain dict; each side builds its own app from it.

Redis carries pointers only and may lose, double or delay any of them (the database is the truth), so nothing here
asks Celery for reliability it does not have: no result backend, no retries, no ETA, no revoke.
"""

from __future__ import annotations

from typing import Any

TASK_NAME = "embedmill.embed_chunk"

#: Everything of ours in Redis begins so; an ACL user needs no other keys.
KEY_PREFIX = "embedmill:"

#: Channel on which the end of a job is hinted; the message is the job's id.
FINISHED_CHANNEL = f"{KEY_PREFIX}finished"


def broker_url(redis_url: str) -> str:
    """Return the URL as kombu spells it: `unix://` is `redis+socket://` there."""
    scheme, _, rest = redis_url.partition("://")
    return f"redis+socket://{rest}" if scheme == "unix" else redis_url


def celery_settings(redis_url: str) -> dict[str, Any]:
    """Return the settings of a Celery app on the Redis at `redis_url`."""
    return {
        "broker_url": broker_url(redis_url),
        "result_backend": None,
        "task_ignore_result": True,
        # JSON only: a message can never make a worker run code.
        "task_serializer": "json",
        "accept_content": ["json"],
        # Acknowledge after the commit; a dead worker's chunk comes back by its lease, not by the broker.
        "task_acks_late": True,
        "task_reject_on_worker_lost": False,
        "task_acks_on_failure_or_timeout": True,
        # A chunk that waits behind a slow one inside a worker is latency: hold none but the running ones.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 5,
        # One try: whoever sends puts the chunk back to pending, and the reconciler sends it again.
        "task_publish_retry": False,
        "task_default_queue": "embedmill",
        "broker_transport_options": {
            "global_keyprefix": KEY_PREFIX,
            # The broker's redelivery is only a backstop behind the 60 s lease.
            "visibility_timeout": 3600,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            # A worker killed while it sweeps holds this lock so long.
            "unacked_mutex_expire": 30,
            # Without it a half-open connection is waited on for ever.
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
            "retry_on_timeout": True,
            "health_check_interval": 5,
        },
    }
