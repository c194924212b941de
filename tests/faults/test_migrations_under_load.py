"""A migration beside a mill at work and a lock that somebody holds; one that is killed on its way."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from storage.database import Database
from storage.tables import Row
from tests.faults.forms import FULL, KINDS, full, scenario
from tests.faults.migrating import HISTORY, longer_history
from tests.faults.mill import Mill
from tests.faults.running import running_mill
from tests.servers import running_postgres

_ROOT = Path(__file__).parents[2]

#: The statements, commits among them, before which a migration is killed; in the long form every one.
FEW = (2, 20, 38)
STATEMENTS = range(1, 1000) if FULL else FEW


@contextmanager
def locked(mill: Mill) -> Iterator[None]:
    """Hold a lock as a backup or a report does on PostgreSQL, and as any writer does on SQLite."""
    if mill.postgres is None:
        with closing(sqlite3.connect(mill.database.removeprefix("sqlite:///"), isolation_level=None)) as session:
            session.execute("PRAGMA busy_timeout = 60000")
            session.execute("BEGIN IMMEDIATE")
            yield
            session.execute("ROLLBACK")
        return
    with psycopg.connect(mill.database) as session:
        session.execute("SELECT count(*) FROM chunks")
        yield


def given_up(mill: Mill) -> bool:
    """Whether a migration has let the others pass, and tries again."""
    assert mill.postgres is not None
    log = (mill.postgres.folder / "log").read_text()
    return "canceling statement due to lock timeout" in log and "ALTER TABLE chunks ADD COLUMN flour" in log


def waiting(mill: Mill) -> int:
    """Return how many sessions wait for a lock, migrations not counted."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query NOT LIKE 'ALTER%'"
    return int(mill.sql(f"{query} AND wait_event <> 'advisory'")[0][0])


@full
@scenario("F48")
@pytest.mark.parametrize("kind", KINDS)
def test_two_migrations_at_once_behind_a_lock_fail_no_claim_of_a_mill_at_work(kind: str) -> None:
    with running_mill(kind, slots=2, lease=10, FAULTS_PAUSE_PER_TEXT="0.005") as mill:
        # Given a mill in the midst of a job, and somebody who holds a lock on a table
        mill.submit(4_000, length=2_000)
        mill.wait_for(lambda: mill.commits() > 3, what="a job in its midst")
        history = {HISTORY: str(longer_history(mill.folder))}
        with locked(mill):
            # When a release to come is installed beside it, by two at once
            rivals = [mill.start("tests.faults.migrating", [mill.database], **history) for _ in range(2)]
            # Then they wait for the lock, and on PostgreSQL let the mill pass from time to time
            if mill.postgres is not None:
                mill.wait_for(lambda: waiting(mill), what="a claim or a commit behind the migration")
                mill.wait_for(lambda: given_up(mill), what="the migration to let the others pass")
            else:
                time.sleep(3)
            assert any(rival.poll() is None for rival in rivals)
        # And when it is free both end well
        unlocked = time.monotonic()
        assert [rival.wait(60) for rival in rivals] == [0, 0], mill.tails()
        mill.record("F48", "seconds from the free lock until the schema was changed", time.monotonic() - unlocked)
        assert mill.sql("SELECT version_num FROM alembic_version") == [("9001",)]
        # And the mill works on as if nothing had happened, with the schema of the release to come
        assert mill.open_jobs() == 1, "the job was over before the migration"
        mill.submit(50, length=2_000)
        mill.wait_complete(180)
        logs = [log.read_text() for log in mill.folder.glob("*-supervisor.log")]
        assert logs and not [line for log in logs for line in log.splitlines() if "ERROR" in line]
        assert not mill.counters().get("leases_expired")


@contextmanager
def empty_database(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'mill.sqlite3'}"
        return
    with running_postgres() as server:
        yield server.url(server.create())


@scenario("F48")
@pytest.mark.timeout(900 if FULL else 300)
@pytest.mark.parametrize("kind", KINDS)
def test_a_migration_killed_at_any_statement_leaves_all_or_nothing_and_can_be_run_again(
    kind: str, tmp_path: Path
) -> None:
    with empty_database(kind, tmp_path) as url, closing(Database(url)) as database:
        command = [sys.executable, "-m", "tests.faults.migrating", url]
        # Given migrations of an empty database, each killed some statements later
        killed = 0
        for statement in STATEMENTS:
            ended = subprocess.run([*command, str(statement)], cwd=_ROOT, capture_output=True, text=True, timeout=60)
            if ended.returncode == 0 or database.schema_version() is not None:
                break
            # Then nothing of it is left
            assert ended.returncode == -9, ended.stderr
            assert inspect(database.engine).get_table_names() == []
            killed += 1
        else:
            assert not FULL, "no migration came to its end"
        assert killed >= (max(FEW) if FULL else len(FEW)), "a migration has fewer statements than that: choose others"
        # And when it is run again, the schema is whole
        again = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=60)
        assert again.returncode == 0, again.stderr
        database.check_schema()
        # (an engine of its own: SQLAlchemy reads PostgreSQL's catalogue as text alone)
        engine = create_engine(database.url)
        with engine.connect() as connection:
            options = {"compare_type": True, "compare_server_default": True}
            assert compare_metadata(MigrationContext.configure(connection, opts=options), Row.metadata) == []
        engine.dispose()
