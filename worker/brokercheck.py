"""Looks at a Redis for what makes it lose messages, refuse them or be slow: nothing is lost by it, but time is."""

from __future__ import annotations

import redis

from storage.checkups.check import Verdict
from storage.checkups.onredis import WATCHED, looked_at
from storage.redisclient import queue_unavailable


def findings(client: redis.Redis) -> list[str]:
    """Return what is wrong with a Redis, each with what to do; the same words as long as it is the same.

    Args:
        client: See `storage.redisclient.redis_client`; not every user may ask everything, which is no finding.
    """
    try:
        server = looked_at(client)
    except (redis.RedisError, OSError) as error:
        why = queue_unavailable(error)
        return [f"{why.message.rstrip('.')} ({type(error).__name__}): jobs are safe and wait. {why.remedy}"]
    if server.about is None:
        return ["Redis does not let this user look at it (INFO): grant +info, or nobody is warned before it is full."]
    outcomes = [check(server) for check in WATCHED]
    return [str(outcome) for outcome in outcomes if outcome.verdict is not Verdict.OK]
