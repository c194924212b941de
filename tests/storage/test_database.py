"""What goes wrong under the stores is told in the program's own words."""

import os
import shutil
import socket
import stat
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select, text

from storage.contract.errors import (
    InvalidOption,
    SchemaMismatch,
    StorageFull,
    StorageUnavailable,
)
from storage.contract.settings import Settings
from storage.database import SCHEMA_VERSION, Database, now_ms, open_database
from storage.faults import StorageConflict, retried
from storage.sqlitefile import DatabaseMissing
from storage.stores import Stores
from tests.servers import short_folder
from tests.storage.builders import serve, submit

_TERMINATE_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid != pg_backend_pid()
"""


def set_version(database: Database, version: str) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})


@pytest.mark.parametrize(
    "url", ["nonsense", "", "mysql://root@localhost/mill", "oracle://x", "redis://localhost", "postgres+wrong://x/y"]
)
def test_a_url_of_no_known_database_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        Database(url)
    assert caught.value.remedy is not None


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_means_psycopg_3(scheme: str) -> None:
    assert Database(f"{scheme}://miller@localhost/mill").url.drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    ("scheme", "driver", "remedy"),
    [
        ("postgresql+psycopg2", "psycopg2", "postgresql://"),
        ("postgresql+asyncpg", "asyncpg", "postgresql://"),
        ("sqlite+aiosqlite", "aiosqlite", "sqlite://"),
    ],
)
def test_a_driver_that_is_not_used_here_is_named_with_what_to_write(scheme: str, driver: str, remedy: str) -> None:
    with pytest.raises(InvalidOption, match=f"{driver} is not the driver used here. Write {remedy} "):
        Database(f"{scheme}://miller:grindstone@localhost/mill")


def test_a_postgresql_that_nobody_runs_is_unavailable() -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else gets it, and nobody answers
        taken.bind(("127.0.0.1", 0))
        database = Database(f"postgresql://miller:s3cret@127.0.0.1:{taken.getsockname()[1]}/mill")
        with pytest.raises(StorageUnavailable, match="does not answer") as caught:
            database.schema_version()
    assert "s3cret" not in str(caught.value)
    assert "EMBEDMILL_DATABASE_URL" in str(caught.value)


def test_a_postgresql_without_that_database_or_socket_is_unavailable(postgres_url: str) -> None:
    missing = postgres_url.replace("/test_", "/no_such_")
    with pytest.raises(StorageUnavailable, match=r"no_such_.* does not exist"):
        Database(missing).schema_version()
    with short_folder() as folder, pytest.raises(StorageUnavailable):
        Database(f"postgresql://postgres@/mill?host={folder}").schema_version()


def test_a_connection_that_the_server_closed_is_replaced(postgres_url: str) -> None:
    # Given a pooled connection that an administrator ends
    database, other = Database(postgres_url), Database(postgres_url)
    database.schema_version()
    with other.write() as connection:
        connection.execute(text(_TERMINATE_OTHERS))
    # When the database is asked again, then it answers
    assert database.schema_version() is None
    # And one that ends in the middle of a transaction is told as such
    with pytest.raises(StorageUnavailable), database.write() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    database.close()
    other.close()


def test_a_sqlite_file_that_is_not_there_is_told_of_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the name of a file, and one in a folder, that are not there
    monkeypatch.chdir(tmp_path)
    for name in ("typo.sqlite3", f"{tmp_path / 'missing' / 'mill.sqlite3'}"):
        database, settings = Database(f"sqlite:///{name}"), Settings(database_url=f"sqlite:///{name}")
        # When it is read, written, or opened, then where it was sought is told, and what to do
        for use in (database.schema_version, database.give_back, partial(open_database, settings)):
            with pytest.raises(DatabaseMissing) as told:
                use()
            assert f"There is no database {tmp_path / name}." in told.value.message
            assert "EMBEDMILL_DATABASE_URL" in str(told.value.remedy) and "embedmill migrate" in str(told.value.remedy)
    # And nothing was made
    assert list(tmp_path.iterdir()) == []


def test_a_sqlite_file_that_is_taken_away_is_not_made_anew(migrated_sqlite: Path, tmp_path: Path) -> None:
    # Given a database in use, whose file somebody removes
    path = tmp_path / "mill.sqlite3"
    shutil.copy(migrated_sqlite, path)
    database = Database(f"sqlite:///{path}")
    database.check_schema()
    for part in tmp_path.iterdir():
        part.unlink()
    # When it is asked again, then that is told, and not that it has no schema
    with pytest.raises(DatabaseMissing):
        database.check_schema()
    database.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption, match="in memory"):
        Database(url)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mill.sqlite3"
    path.write_bytes(b"these are the miller's notes, no database" * 50)
    with pytest.raises(StorageUnavailable, match="damaged: file is not a database"):
        Database(f"sqlite:///{path}").schema_version()


def test_a_read_only_sqlite_is_told_on_the_first_write(migrated_sqlite: Path, tmp_path: Path) -> None:
    path = tmp_path / "mill.sqlite3"
    shutil.copy(migrated_sqlite, path)
    database = Database(f"sqlite:///file:{path}?mode=ro&uri=true")
    with pytest.raises(StorageUnavailable) as caught, database.write() as connection:
        connection.execute(text("DELETE FROM jobs"))
    assert "read-only" in str(caught.value)
    database.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_data_folder_without_rights_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(StorageUnavailable):
        open_database(Settings(data_dir=folder, database_url=None))


def test_a_data_folder_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageUnavailable, match="EMBEDMILL_DATA_DIR"):
        open_database(Settings(data_dir=tmp_path / "file" / "data", database_url=None))


def test_a_full_disk_is_told_as_one(migrated_sqlite: Path, tmp_path: Path) -> None:
    path = tmp_path / "mill.sqlite3"
    shutil.copy(migrated_sqlite, path)
    database = Database(f"sqlite:///{path}")
    with database.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFull), database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE grain AS SELECT zeroblob(1000000)")
    database.close()


def test_the_embedded_database_is_made_private_and_migrated_by_itself(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", database_url=None)
    database = open_database(settings)
    assert database.schema_version() == SCHEMA_VERSION
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    database.close()
    # And to open it again finds what was kept
    stores = Stores.open(settings)
    serve(stores)
    job_id = submit(stores)
    stores.database.close()
    again = Stores.open(settings)
    assert again.jobs.list_ids() == [job_id]
    again.database.close()


def test_a_new_file_is_read_by_its_owner_alone_wherever_it_lies_and_one_that_was_shared_stays_so(
    tmp_path: Path,
) -> None:
    # Given a folder that is open to all, as one made by somebody else may be
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o755)
    before = os.umask(0o022)
    try:
        database = open_database(Settings(data_dir=folder, database_url=None))
        # When it is written to, then neither the file nor what lies beside it is read by others
        serve(Stores.on(database))
        files = [folder / f"embedmill.sqlite3{what}" for what in ("", "-wal", "-shm")]
        assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 3
        database.close()
        # And what its owner has opened to his group stays open to it
        (folder / "embedmill.sqlite3").chmod(0o660)
        open_database(Settings(data_dir=folder, database_url=None)).close()
        assert stat.S_IMODE((folder / "embedmill.sqlite3").stat().st_mode) == 0o660
    finally:
        os.umask(before)


def test_a_database_of_ones_own_is_not_migrated_unasked(empty_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="embedmill migrate"):
        open_database(Settings(database_url=empty_url))
    database = Database(empty_url)
    assert database.schema_version() is None
    database.close()


@pytest.mark.parametrize(("version", "remedy"), [("0000", "embedmill migrate"), ("9999", "Upgrade embedmill")])
def test_a_database_of_ones_own_with_another_schema_is_refused(
    database: Database, database_url: str, version: str, remedy: str
) -> None:
    set_version(database, version)
    try:
        with pytest.raises(SchemaMismatch, match=remedy):
            open_database(Settings(database_url=database_url))
        assert database.schema_version() == version
    finally:
        set_version(database, SCHEMA_VERSION)


def test_an_embedded_database_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=None)
    database = open_database(settings)
    set_version(database, "9999")
    with pytest.raises(SchemaMismatch, match="newer than this program knows"):
        open_database(settings)
    assert database.schema_version() == "9999"
    database.close()


def test_both_databases_tell_the_time_in_milliseconds_within_a_transaction_too(database: Database) -> None:
    with database.read() as connection:
        first = connection.execute(select(now_ms())).scalar_one()
        later = connection.execute(select(now_ms())).scalar_one()
        while later == first:  # the clock goes on inside a transaction
            later = connection.execute(select(now_ms())).scalar_one()
    assert isinstance(first, int) and 1_700_000_000_000 < first < later < first + 60_000


def test_a_write_that_raises_leaves_nothing_behind(stores: Stores, database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        connection.execute(text("INSERT INTO leaders VALUES ('sweep', '0198c0de-0000-7000-8000-000000000000', 1)"))
        raise ZeroDivisionError
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM leaders")).scalar_one() == 0


def test_a_transaction_in_anothers_way_is_tried_again_a_few_times() -> None:
    calls = []

    @retried
    def unlucky(times: int) -> str:
        calls.append(times)
        if len(calls) <= times:
            raise StorageConflict("The database is busy: deadlock detected.", "Try again.")
        return "done"

    assert unlucky(3) == "done" and len(calls) == 4
    calls.clear()
    with pytest.raises(StorageConflict):
        unlucky(99)
    assert len(calls) == 4


def test_what_a_loss_of_power_may_take_is_not_waited_for_and_all_else_is(migrated_sqlite: Path) -> None:
    database = Database(f"sqlite:///{migrated_sqlite}")

    def waits(**given: bool) -> bool:
        with database.write(**given) as connection:
            return connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2

    # Each after the other, since they share connections
    assert [waits(), waits(durable=False), waits(durable=True)] == [True, False, True]
    database.close()


def test_whoever_connects_and_reads_does_not_wait_for_a_writer(tmp_path: Path, migrated_sqlite: Path) -> None:
    path = tmp_path / "file.sqlite3"
    shutil.copy(migrated_sqlite, path)
    writing, reading = Database(f"sqlite:///{path}"), Database(f"sqlite:///{path}", busy_timeout=1)
    with writing.write() as connection:
        connection.exec_driver_sql("UPDATE counters SET value = value")
        # A wait would end at once, with an error
        assert reading.schema_version() == SCHEMA_VERSION
    writing.close()
    reading.close()
