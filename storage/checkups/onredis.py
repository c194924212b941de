"""Redis: is it there, will it lose or refuse messages, may we use it, is it fast."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import redis

from storage.checkups.check import Area, Outcome, ok, warning, wrong
from storage.checkups.places import median, shown, size
from storage.checkups.redisrights import missing_rights, side_of
from storage.contract.broker import KEY_PREFIX, ask_sentinels
from storage.contract.errors import QueueUnavailable
from storage.contract.sentinel import SentinelURL, is_sentinel
from storage.contract.settings import Settings
from storage.redisclient import UNREACHABLE, queue_unavailable, redis_client

#: Oldest version that has every command kombu sends (ZADD GT, and ZRANGE BYSCORE).
OLDEST = (6, 2)

#: Share of its memory, or of its connections, from which a Redis counts as nearly full.
NEARLY_FULL = 0.7

#: A round trip that takes longer makes every message slow, in milliseconds.
_SLOW = 20.0

_PINGS = 21

#: Longest wait for one answer, in seconds.
_TIMEOUT = 3.0


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A Redis that answers, and what it says of itself.

    Args:
        client: Asks it.
        url: Where it is.
        about: What INFO says; None where this user may not ask.
        side: Whose user it is to be looked at as, `worker` or `producer`; None: that is found out.
    """

    client: redis.Redis
    url: str
    about: dict[str, Any] | None
    side: str | None = None

    def told(self) -> dict[str, Any]:
        """Return what INFO says.

        Raises:
            PermissionError: When this user may not ask.
        """
        if self.about is None:
            raise PermissionError("Redis does not let this user look at it (INFO): grant +info")
        return self.about


def looked_at(client: redis.Redis, url: str = "") -> RedisServer:
    """Return a Redis with what it says of itself; raises what the driver raises when it does not answer."""
    try:
        return RedisServer(client, url, client.info())
    except redis.exceptions.NoPermissionError:
        return RedisServer(client, url, None)


def area(settings: Settings, side: str | None = None) -> Area[RedisServer]:
    """Return the checks of the settings' Redis.

    Args:
        settings: Say where it is.
        side: Whose rights are looked at, `worker` or `producer`; None: those of whoever the user seems to be.
    """

    @contextmanager
    def opened() -> Iterator[tuple[RedisServer, Outcome]]:
        try:
            client = redis_client(settings.redis, _TIMEOUT)
            client.ping()
            server = replace(looked_at(client, settings.redis), side=side)
        except (redis.RedisError, OSError) as error:
            raise _away(settings, error) from error
        try:
            yield server, ok(f"Redis answers at {shown(settings.redis)}.")
        finally:
            client.close()

    found: Area[RedisServer] = Area("redis", "reachable", opened, is_server=True)
    for name, look in CHECKS.items():
        found.check(name, look)
    return found


def _away(settings: Settings, error: Exception) -> QueueUnavailable:
    if settings.redis_is_embedded and not settings.redis_socket.exists():
        return QueueUnavailable("The embedded Redis does not run.", "Start it, with all the rest: embedmill up.")
    told, place = queue_unavailable(error), shown(settings.redis)
    if told.message != UNREACHABLE:
        return QueueUnavailable(f"{told.message} It was sought at {place}.", told.remedy)
    why = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    remedy = "Look whether it runs, and whether EMBEDMILL_REDIS_URL names it; accepted jobs are safe and wait."
    return QueueUnavailable(f"Redis cannot be reached at {place} ({why}).", remedy)


def _latency(server: RedisServer) -> Outcome:
    times = []
    for _ in range(_PINGS):
        start = time.perf_counter()
        server.client.ping()
        times.append(1000 * (time.perf_counter() - start))
    found = f"Half of all answers come within {median(times):.1f} ms."
    if median(times) > _SLOW:
        return warning(found, "Bring Redis nearer to its workers, or find out what keeps it busy (SLOWLOG GET).")
    return ok(found)


def version(server: RedisServer) -> Outcome:
    """Return whether its version has all commands that are sent."""
    told = str(server.told().get("redis_version", ""))
    numbers = tuple(int(part) for part in told.split(".")[:2] if part.isdecimal())
    if len(numbers) == 2 and numbers < OLDEST:
        needed = f"{OLDEST[0]}.{OLDEST[1]}"
        return wrong(f"Redis is of version {told}, and Celery needs {needed}.", f"Upgrade it to {needed} or newer.")
    other = server.told().get("valkey_version")
    return ok(f"Valkey {other}, which speaks Redis {told}." if other else f"Redis {told}.")


def role(server: RedisServer) -> Outcome:
    """Return whether it is one that takes messages."""
    if server.told().get("role") == "slave":
        return wrong(
            "Redis is a replica and takes no messages.", "Name its primary, or its Sentinels (redis+sentinel://...)."
        )
    return ok("It is a primary.")


def policy(server: RedisServer) -> Outcome:
    """Return whether it throws messages away."""
    told = server.told().get("maxmemory_policy", "noeviction")
    if told != "noeviction":
        return warning(
            f"Redis throws messages away when it is full (maxmemory-policy {told}); they are sent again, later.",
            "Run CONFIG SET maxmemory-policy noeviction, and give Embedmill a Redis of its own.",
        )
    return ok("It throws nothing away (maxmemory-policy noeviction).")


def memory(server: RedisServer) -> Outcome:
    """Return whether it is nearly full."""
    used, limit = int(server.told().get("used_memory", 0)), int(server.told().get("maxmemory", 0))
    if not limit:
        return ok(f"It uses {size(used)}; there is no maxmemory.")
    if used > NEARLY_FULL * limit:
        return warning(
            # Without the figure, which would make it another sentence every minute.
            f"Redis uses more than {NEARLY_FULL:.0%} of its maxmemory, and takes no messages when it is full.",
            "Raise maxmemory, or remove what else it keeps; Embedmill's own messages are a few MB.",
            [f"{size(used)} of {size(limit)}"],
        )
    return ok(f"It uses {size(used)} of {size(limit)}.")


def persistence(server: RedisServer) -> Outcome:
    """Return whether it knows after a restart what it knew before."""
    about = server.told()
    disk = "Look at its log: most often its disk is full, or its folder is not writable."
    if about.get("aof_enabled", 1):
        if about.get("aof_last_write_status", "ok") != "ok":
            return wrong("Redis could not write its append-only file, and takes no messages until it can.", disk)
        if about.get("aof_last_bgrewrite_status", "ok") != "ok":
            return warning("Redis could not rewrite its append-only file, which grows without end.", disk)
        return ok("Its append-only file is on, and was written well.")
    if _snapshots(server) is False:
        return warning(
            "Redis keeps nothing on disk: after its restart every message is sent again, which takes seconds.",
            "Run CONFIG SET appendonly yes.",
        )
    if about.get("rdb_last_bgsave_status", "ok") != "ok":
        return wrong("Redis could not save its snapshot, and takes no messages until it can.", disk)
    return ok("It saves snapshots; what came after the last one is sent again after a restart.")


def _snapshots(server: RedisServer) -> bool | None:
    """Return whether snapshots are saved; None where this user may not know."""
    try:
        told: Any = server.client.config_get("save")
    except redis.ResponseError:
        return None
    return bool(told.get("save", "unknown"))


def _connections(server: RedisServer) -> Outcome:
    used, most = int(server.told().get("connected_clients", 0)), int(server.told().get("maxclients", 0))
    if most and used > NEARLY_FULL * most:
        return warning(f"{used:,} of at most {most:,} connections are in use.", "Raise maxclients.")
    return ok(f"{used:,} connections are in use{f' of at most {most:,}' if most else ''}.")


def rights(server: RedisServer) -> Outcome:
    """Return whether this user may do all that a worker does."""
    return _rights(server, "worker")


def _own_rights(server: RedisServer) -> Outcome:
    """Return whether this user may do what it is for, which is told, or found out by what it may do."""
    return _rights(server, server.side or side_of(server.client))


def _rights(server: RedisServer, side: str) -> Outcome:
    missing = missing_rights(server.client, side)
    if missing:
        without = "workers take no messages" if side == "worker" else "no messages are sent"
        return wrong(
            f"Redis' user lacks rights, and without them {without} (looked at as a {side}'s).",
            f"Have its operator grant {' '.join(missing)} (docs/many-machines.md has the whole line).",
        )
    where = f"on keys and channels that begin with {KEY_PREFIX}"
    if side == "worker":
        return ok(f"This user may run all that a worker needs, {where}")
    return ok(f"This user may run all that a producer needs, {where}; it takes no messages, so it is no worker's")


def _sentinels(server: RedisServer) -> Outcome:
    if not is_sentinel(server.url):
        return ok("None is named; a Redis of one's own is enough, as no message is needed for good.")
    url = SentinelURL.parse(server.url)
    silent = [f"{host}:{port}" for host, port in url.hosts if not _answers(url, host, port)]
    if silent:
        return warning(
            f"Of {len(url.hosts)} Sentinels {len(silent)} do not know {url.service}: {', '.join(silent)}.",
            "Start them, or take them out of EMBEDMILL_REDIS_URL; without a majority nobody takes over.",
        )
    if len(url.hosts) < 3:
        return warning(f"There are {len(url.hosts)} Sentinels.", "Run three, so that one that dies can be outvoted.")
    return ok(f"All {len(url.hosts)} Sentinels know {url.service}.")


def _answers(url: SentinelURL, host: str, port: int) -> bool:
    with redis.Redis(host, port, **ask_sentinels(url, 1.0)) as sentinel:
        try:
            return bool(sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.service))
        except (redis.RedisError, OSError):
            return False


def clock(server: RedisServer) -> float:
    """Return how far its clock is ahead of this host's, in seconds."""
    before = time.time()
    told: Any = server.client.time()
    return float(told[0] + told[1] / 1e6 - (before + time.time()) / 2)


def _clock(server: RedisServer) -> Outcome:
    ahead = clock(server)
    if abs(ahead) > 5:
        return warning(
            f"Its clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this host's.",
            "Run NTP on both: nothing is decided by it here, but logs cannot be laid side by side.",
        )
    return ok(f"Its clock and this host's differ by {abs(ahead):.2f} s.")


#: What is looked at, in order.
CHECKS: dict[str, Callable[[RedisServer], Outcome]] = {
    "latency": _latency,
    "version": version,
    "role": role,
    "eviction": policy,
    "memory": memory,
    "persistence": persistence,
    "connections": _connections,
    "rights": _own_rights,
    "sentinels": _sentinels,
    "clock": _clock,
}

#: Of them, what a reconciler looks at again and again.
WATCHED = (rights, version, role, policy, memory, persistence)
