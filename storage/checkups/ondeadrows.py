"""Who has PostgreSQL keep dead rows: whoever looks for pending chunks passes over those of all that are done."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from storage.checkups.check import Outcome, ok, warning
from storage.database import Database

#: A transaction open for so long keeps dead rows from being removed, in seconds.
_LONG = 300

#: What a standby or a replication slot keeps is told from so many transactions on: some minutes' worth of a busy mill.
_OLD = 100_000


def transactions(database: Database) -> Outcome:
    """Tell of the oldest transaction that has been open for long, here or on a standby, and what that costs."""
    kept = _rows(database, _KEPT, long=_LONG, old=_OLD)
    if not kept:
        return ok(f"No transaction has been open for longer than {_LONG // 60} minutes.")
    jobs = _open_jobs(database)
    cost = f": {jobs:,} open job{'s get' if jobs != 1 else ' gets'} slower with each chunk that is done" if jobs else ""
    return warning(f"{kept[0].who}: no dead row is removed meanwhile{cost}.", kept[0].remedy)


def _rows(database: Database, query: str, **parameters: Any) -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(text(query), parameters))


def _open_jobs(database: Database) -> int:
    """Return how many jobs wait or are at work; none where there is no schema yet."""
    if not _rows(database, "SELECT 1 WHERE to_regclass('jobs') IS NOT NULL"):
        return 0
    ((jobs,),) = _rows(database, "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')")
    return int(jobs)


_KEPT = """
SELECT who, remedy FROM (
  SELECT 1 AS place, extract(epoch FROM now() - xact_start) AS age,
    'A transaction of ' || coalesce(nullif(application_name, ''), 'somebody') || ' (pid ' || pid || ', '
      || coalesce(state, '-') || ') has been open for ' || extract(epoch FROM now() - xact_start)::bigint || ' s'
      AS who,
    'End it if it is not wanted: SELECT pg_terminate_backend(' || pid || ').' AS remedy
  FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND xact_start < now() - make_interval(secs => :long)
  UNION ALL
  SELECT 2, extract(epoch FROM now() - prepared), 'The transaction ' || gid || ' is prepared since ' || prepared,
    'End it: ROLLBACK PREPARED, or COMMIT PREPARED.'
  FROM pg_prepared_xacts
  WHERE database = current_database() AND prepared < now() - make_interval(secs => :long)
  UNION ALL
  SELECT 3, age(backend_xmin),
    'The standby ' || coalesce(nullif(application_name, ''), pid::text) || ' reads what was '
      || age(backend_xmin) || ' transactions ago',
    'Look what has been open there for so long, or set hot_standby_feedback = off on it.'
  FROM pg_stat_replication WHERE age(backend_xmin) > :old
  UNION ALL
  SELECT 4, age(xmin), 'The replication slot ' || slot_name || ' keeps what was ' || age(xmin) || ' transactions ago',
    'Have its reader come back, or, if nobody reads it any more: SELECT pg_drop_replication_slot(...).'
  FROM pg_replication_slots WHERE age(xmin) > :old
) AS kept ORDER BY place, age DESC
"""
