"""The schema's history, on both databases."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, text

import storage.migrations
from storage.contract.errors import SchemaMismatch, StorageUnavailable
from storage.database import SCHEMA_VERSION, Database
from storage.migrations import migrate
from storage.stores import Stores
from storage.tables import Row
from tests.storage.builders import serve, submit

#: Migrates a database when its standard input is closed, so that several can begin at once.
MIGRATE = """
import sys
from storage.database import Database
from storage.migrations import migrate
database = Database(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
migrate(database)
"""


def test_the_newest_migration_is_the_one_the_program_knows() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(storage.migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_VERSION]


@pytest.fixture
def plain(database: Database) -> Iterator[Engine]:
    """An engine without results in binary, which SQLAlchemy's reading of PostgreSQL's catalogue does not know."""
    engine = create_engine(database.url)
    yield engine
    engine.dispose()


def test_a_migrated_schema_is_the_one_of_the_tables(database: Database, plain: Engine) -> None:
    with plain.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Row.metadata) == []


def test_a_difference_between_schema_and_tables_would_be_seen(plain: Engine) -> None:
    with plain.connect() as connection:
        connection.exec_driver_sql("DROP INDEX ix_jobs_created_at")
        connection.exec_driver_sql("ALTER TABLE leaders ADD COLUMN hat TEXT")
        differences = compare_metadata(MigrationContext.configure(connection), Row.metadata)
        connection.rollback()
    assert {difference[0] for difference in differences} == {"add_index", "remove_column"}


def test_an_empty_database_is_migrated_and_a_second_time_changes_nothing(empty_url: str) -> None:
    database = Database(empty_url)
    assert database.schema_version() is None
    migrate(database)
    stores = Stores.on(database)
    serve(stores)
    job_id = submit(stores)
    migrate(database)
    assert database.schema_version() == SCHEMA_VERSION
    assert stores.jobs.list_ids() == [job_id]
    database.close()


def test_two_that_migrate_at_once_get_in_nobodys_way(empty_url: str) -> None:
    # Given two processes about to migrate one empty database
    command = [sys.executable, "-c", MIGRATE, empty_url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    rivals = [subprocess.Popen(command, text=True, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    try:
        for rival in rivals:
            assert rival.stdout.readline() == "ready\n"
        # When they begin
        for rival in rivals:
            rival.stdin.close()
        # Then each ends well
        for rival in rivals:
            rival.wait(timeout=60)
            assert (rival.returncode, rival.stderr.read()) == (0, "")
    finally:
        for rival in rivals:
            rival.kill()
            rival.wait()
            for pipe in (rival.stdin, rival.stdout, rival.stderr):
                pipe.close()
    # And the schema is whole
    database = Database(empty_url)
    database.check_schema()
    database.close()


def test_to_migrate_a_database_that_is_away_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="cannot be opened or made"):
        migrate(Database(f"sqlite:///{tmp_path / 'missing' / 'mill.sqlite3'}"))


def test_to_migrate_a_database_of_a_newer_program_says_so_and_leaves_it_alone(database: Database) -> None:
    def set_version(version: str) -> None:
        with database.write() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})

    set_version("9999")
    try:
        with pytest.raises(SchemaMismatch, match=r"newer than this program knows .* Upgrade embedmill"):
            migrate(database)
        assert database.schema_version() == "9999"
    finally:
        set_version(SCHEMA_VERSION)
