"""What must hold of a PostgreSQL server, and of what stands between it and us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import bindparam, func, select, text

from storage.checkups.check import Outcome, not_checked, ok, warning, wrong
from storage.checkups.places import size
from storage.checkups.postgresdisk import check_room
from storage.database import Database
from storage.rights import Side, missing
from storage.services import ServiceStore
from storage.tables import WorkerRow
from storage.workers import IS_LIVE

#: Oldest version that its makers still mend.
_OLDEST = 14

#: Connections that one process may open.
_EACH = 16

#: Share of the connections from which a server counts as nearly full.
_NEARLY_FULL = 0.8

#: A transaction open for so long keeps dead rows from being removed, in seconds.
_LONG = 300

#: Whoever waits for a lock for so long waits for somebody who does something unusual, in seconds.
_WAIT = 5


def _rows(database: Database, query: str, **parameters: Any) -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(text(query), parameters))


def _settings(database: Database, *names: str) -> dict[str, str]:
    wanted = text("SELECT name, setting FROM pg_settings WHERE name IN :names")
    with database.read() as connection:
        found = connection.execute(wanted.bindparams(bindparam("names", expanding=True)), {"names": list(names)})
        return {row.name: row.setting for row in found}


def _version(database: Database) -> Outcome:
    found = _settings(database, "server_version", "server_version_num")
    if int(found["server_version_num"]) // 10_000 < _OLDEST:
        return warning(f"PostgreSQL {found['server_version']}.", f"Upgrade it to {_OLDEST} or newer.")
    return ok(f"PostgreSQL {found['server_version']}.")


def _encoding(database: Database) -> Outcome:
    ((told,),) = _rows(
        database, "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
    )
    if told != "UTF8":
        return wrong(
            f"The database's encoding is {told}: callers' ids and names of models are kept as bytes nobody checks.",
            "Make a new one: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, and move the jobs over.",
        )
    return ok("Its encoding is UTF8.")


def _connections(database: Database) -> Outcome:
    found = _settings(database, "max_connections", "superuser_reserved_connections")
    most = int(found["max_connections"]) - int(found["superuser_reserved_connections"])
    ((used, ours),) = _rows(
        database,
        "SELECT count(*), count(*) FILTER (WHERE application_name = 'embedmill') FROM pg_stat_activity"
        # Of other roles' sessions one's own is told no more than that they are there.
        " WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'",
    )
    told = f"{used} of {most} connections are in use, {ours} by Embedmill."
    remedy = "Raise max_connections, or put PgBouncer in transaction mode before it."
    if used > _NEARLY_FULL * most:
        return warning(told, remedy)
    # A reconciler that runs by itself is noted nowhere: room for one.
    wanted = _EACH * (_processes(database) + 1)
    if wanted > most:
        more = f"{told} The processes that are alive, and a reconciler, may open up to {wanted}."
        return warning(more, remedy)
    return ok(told)


def _processes(database: Database) -> int:
    """Return how many processes of services and of worker machines are alive, as docs/operations.md adds them up."""
    ((has_workers, has_services),) = _rows(
        database, "SELECT to_regclass('workers') IS NOT NULL, to_regclass('services') IS NOT NULL"
    )
    services = len(ServiceStore(database).live()) if has_services else 0
    if not has_workers:
        return services
    # Each supervisor serves one model, with a reconciler beside its workers.
    machines = select(WorkerRow.host, WorkerRow.model_id).where(IS_LIVE).distinct()
    with database.read() as connection:
        workers = connection.execute(select(func.count()).where(IS_LIVE)).scalar_one()
        return services + int(workers) + 2 * len(connection.execute(machines).all())


def _autovacuum(database: Database) -> Outcome:
    found = _settings(database, "autovacuum", "track_counts")
    if "off" in found.values():
        return wrong(
            "Autovacuum is off: rows that were changed or deleted are never cleared away, and the database grows.",
            "Run ALTER SYSTEM SET autovacuum = on, ALTER SYSTEM SET track_counts = on, SELECT pg_reload_conf().",
        )
    dead = _rows(
        database,
        "SELECT relname, n_dead_tup FROM pg_stat_user_tables WHERE n_dead_tup > 100000"
        " AND n_dead_tup > n_live_tup ORDER BY n_dead_tup DESC LIMIT 3",
    )
    if dead:
        tables = ", ".join(f"{row.relname} ({row.n_dead_tup:,})" for row in dead)
        return warning(
            f"More rows are dead than alive in {tables}.", "Look for long transactions, then run VACUUM on it."
        )
    return ok("Autovacuum is on, and keeps up.")


def _durability(database: Database) -> Outcome:
    found = _settings(database, "fsync", "full_page_writes", "synchronous_commit")
    broken = [name for name in ("fsync", "full_page_writes") if found[name] == "off"]
    if broken:
        return wrong(
            f"A loss of power may destroy the database: off are {', '.join(broken)}.",
            f"Run {', '.join(f'ALTER SYSTEM SET {name} = on' for name in broken)}, then SELECT pg_reload_conf().",
        )
    if found["synchronous_commit"] == "off":
        return warning(
            "synchronous_commit is off: jobs accepted in the last moments before a loss of power may be lost.",
            "Run ALTER SYSTEM SET synchronous_commit = on, then SELECT pg_reload_conf().",
        )
    return ok(f"What is committed is on disk (synchronous_commit {found['synchronous_commit']}).")


def _replication(database: Database) -> Outcome:
    ((standby,),) = _rows(database, "SELECT pg_is_in_recovery()")
    if standby:
        return wrong("It is a standby, and takes no writes.", "Name the primary in EMBEDMILL_DATABASE_URL.")
    found = _settings(database, "synchronous_standby_names", "default_transaction_read_only")
    if found["default_transaction_read_only"] == "on":
        return wrong("Transactions are read-only by default.", "Set default_transaction_read_only = off for this user.")
    names = found["synchronous_standby_names"]
    following = _rows(database, "SELECT sync_state FROM pg_stat_replication")
    if names and not any(row.sync_state in ("sync", "quorum") for row in following):
        return wrong(
            f"Commits wait for a synchronous standby ({names}), and none follows.",
            "Start the standby, or empty synchronous_standby_names.",
        )
    return ok(
        f"It is a primary; {len(following)} standbys follow." if following else "It is a primary without standbys."
    )


def _limits(database: Database) -> Outcome:
    found = _rows(
        database,
        "SELECT name, setting FROM pg_settings WHERE source NOT IN ('default', 'session') AND setting <> '0'"
        " AND name IN ('idle_session_timeout', 'transaction_timeout')",
    )
    if found:
        told = ", ".join(f"{row.name} = {row.setting} ms" for row in found)
        return warning(
            f"The server ends what lasts longer than {told}.",
            "Set them to 0 for this user (ALTER ROLE ... SET): a connection may wait long for work.",
        )
    return ok("No limit of the server's stands in the way; each transaction of ours brings its own.")


def _transactions(database: Database) -> Outcome:
    long = _rows(
        database,
        "SELECT pid, state, application_name, extract(epoch FROM now() - xact_start)::bigint AS seconds"
        " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND xact_start < now() - make_interval(secs => :long) ORDER BY xact_start LIMIT 5",
        long=_LONG,
    )
    if long:
        worst = long[0]
        return warning(
            f"A transaction of {worst.application_name or 'somebody'} (pid {worst.pid}, {worst.state}) has been open"
            f" for {worst.seconds:,} s: no dead row is removed meanwhile.",
            f"End it if it is not wanted: SELECT pg_terminate_backend({worst.pid}).",
        )
    return ok(f"No transaction has been open for longer than {_LONG // 60} minutes.")


def _locks(database: Database) -> Outcome:
    waiting = _rows(
        database,
        "SELECT pid, pg_blocking_pids(pid) AS by, extract(epoch FROM now() - query_start)::bigint AS seconds"
        " FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND query_start < now() - make_interval(secs => :wait) AND wait_event <> 'advisory'"
        " ORDER BY query_start LIMIT 5",
        wait=_WAIT,
    )
    if waiting:
        by = ", ".join(str(pid) for pid in waiting[0].by)
        return warning(
            f"{len(waiting)} sessions wait for a lock, the longest for {waiting[0].seconds:,} s, behind pid {by}.",
            f"Look what that one does, and end it if need be: SELECT pg_terminate_backend({waiting[0].by[0]}).",
        )
    return ok("Nobody waits for a lock.")


def _rights(database: Database) -> Outcome:
    """Tell as whom we are here, and whether that is enough for one of the two sides."""
    ((role, administrator, owner),) = _rows(
        database,
        "SELECT current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), EXISTS (SELECT 1"
        " FROM pg_class WHERE oid = to_regclass('jobs') AND pg_has_role(relowner, 'USAGE'))",
    )
    if administrator:
        return ok(f"{role} is the server's administrator: give each service a role of its own (docs/operations.md).")
    if owner:
        return ok(f"{role} owns the tables, as whoever migrates and operates must; the services need less.")
    if not _rows(database, "SELECT 1 WHERE to_regclass('jobs') IS NOT NULL"):
        return not_checked("There are no tables yet.")
    with database.read() as connection:
        lacking = {side: missing(connection, side) for side in Side}
    for side, rights in lacking.items():
        if not rights:
            return ok(f"{role} may do what the {side} needs.")
    nearest = min(lacking, key=lambda side: len(lacking[side]))
    return wrong(
        f"{role} may do neither all that the api needs nor all that a worker does.",
        f"Have the tables' owner run: embedmill migrate --{nearest}-role {role} (or the other side's, if it is that).",
        [f"The {side} lacks {', '.join(rights)}" for side, rights in lacking.items()],
    )


def _pooler(database: Database) -> Outcome:
    with database.engine.connect() as ours, database.engine.connect() as other:
        (real,) = ours.execute(text("SELECT pg_backend_pid()")).one()
        told: Any = ours.connection.driver_connection
        ours.rollback()
        if told.info.backend_pid == real:
            return ok("Nothing stands between: no pooler.")
        # A connection of another client's takes the server's that ours has just given back; then ours gets another.
        other.execute(text("SELECT pg_backend_pid()")).one()
        (again,) = ours.execute(text("SELECT pg_backend_pid()")).one()
        ours.rollback()
    if again == real:
        return ok("A pooler in session mode stands between.")
    return ok("A pooler in transaction mode stands between: nothing is prepared there.")


def _size(database: Database) -> Outcome:
    ((bytes_,),) = _rows(database, "SELECT pg_database_size(current_database())")
    return ok(f"The database has {size(bytes_)}.")


#: What is looked at, in order.
CHECKS: dict[str, Callable[[Database], Outcome]] = {
    "version": _version,
    "encoding": _encoding,
    "connections": _connections,
    "rights": _rights,
    "pooler": _pooler,
    "autovacuum": _autovacuum,
    "durability": _durability,
    "replication": _replication,
    "limits": _limits,
    "transactions": _transactions,
    "locks": _locks,
    "size": _size,
    "room": check_room,
}
