"""Where a database may lie: no network file system for SQLite, several hosts for PostgreSQL."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from storage import counters, filesystems
from storage.contract.errors import StorageUnavailable
from storage.contract.settings import Settings
from storage.database import Database, open_database
from storage.faults import retried
from tests.servers import PostgresServer, short_folder

#: The kernel's number of its file system of processes, which every Linux has.
PROC = 0x9FA0

EXT4, TMPFS = 0xEF53, 0x01021994


def kernel_says(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let every folder lie on a file system of this number."""
    monkeypatch.setattr(filesystems, "_file_system_magic", lambda folder: number)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0x6969, "NFS"),
        (0xFF534D42, "CIFS"),
        (0xFE534D42, "SMB2"),
        (0x517B, "SMB"),
        (0x01021997, "9P"),
        (0x00C36400, "CephFS"),
        (0x0BD00BD0, "Lustre"),
        (0x47504653, "GPFS"),
        (0x19830326, "BeeGFS"),
        (0x5346414F, "AFS"),
        (0x7461636F, "OCFS2"),
        (0x786F4256, "a folder that VirtualBox shares"),
    ],
)
def test_sqlite_on_a_network_file_system_is_refused_before_anything_is_written(
    number: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a folder that a network file system holds
    kernel_says(monkeypatch, number)
    # When a database there is opened, the embedded one or one by URL
    for settings in (
        Settings(data_dir=tmp_path, database_url=None),
        Settings(data_dir=tmp_path, database_url=f"sqlite:///{tmp_path / 'mine.sqlite3'}"),
    ):
        with pytest.raises(StorageUnavailable) as caught:
            open_database(settings)
        # Then it says where, on what, and what to do
        assert str(tmp_path) in str(caught.value) and f"lies on {name}," in str(caught.value)
        assert "EMBEDMILL_DATA_DIR" in str(caught.value.remedy) and "PostgreSQL" in str(caught.value.remedy)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [EXT4, TMPFS, 0])
def test_sqlite_on_a_local_or_unknown_file_system_is_not_refused(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_says(monkeypatch, number)
    open_database(Settings(data_dir=tmp_path, database_url=None)).close()


@pytest.mark.parametrize(("number", "name"), [(0x65735546, "FUSE"), (0x6A656A63, "virtiofs")])
def test_sqlite_where_other_machines_may_see_it_too_is_warned_of(
    number: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernel_says(monkeypatch, number)
    open_database(Settings(data_dir=tmp_path, database_url=None)).close()
    assert f"lies on {name}" in caplog.text and "PostgreSQL" in caplog.text


def test_the_file_counts_and_not_the_link_that_leads_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a link on a local disk to a file on a network
    (share := tmp_path / "share").mkdir()
    link = tmp_path / "embedmill.sqlite3"
    link.symlink_to(share / "embedmill.sqlite3")
    monkeypatch.setattr(filesystems, "_file_system_magic", lambda folder: 0x6969 if folder == share else EXT4)
    # When it is opened, then it is refused
    with pytest.raises(StorageUnavailable, match=r"share lies on NFS"):
        open_database(Settings(data_dir=tmp_path, database_url=None))


def test_the_kernel_is_asked_for_the_file_system_of_a_folder(tmp_path: Path) -> None:
    assert filesystems._file_system_magic(Path("/proc")) == PROC
    assert filesystems._file_system_magic(tmp_path) not in (0, PROC)
    assert filesystems._file_system_magic(tmp_path / "missing") == 0


def test_a_postgresql_url_with_several_hosts_finds_the_one_that_lives(
    postgres_server: PostgresServer, migrated_postgres: str
) -> None:
    # Given a host that nobody runs, named before the one that lives; folders of sockets are hosts too
    url = postgres_server.url(migrated_postgres)
    alive = url.partition("host=")[2]
    with short_folder() as dead:
        several = url.replace(f"host={alive}", f"host={dead},{alive}&target_session_attrs=read-write")
        # When the database is opened and written
        with closing(open_database(Settings(database_url=several))) as database:
            with database.write() as connection:
                connection.execute(text("INSERT INTO counters (name, value) VALUES ('hosts', 1)"))
            # Then it was the living one
            with closing(Database(url)) as direct, direct.write() as connection:
                told = connection.execute(text("DELETE FROM counters WHERE name = 'hosts' RETURNING value"))
                assert told.scalars().all() == [1]
        # And where none lives, that is told
        nobody = url.replace(f"host={alive}", f"host={dead},{dead}")
        with pytest.raises(StorageUnavailable), closing(Database(nobody)) as database:
            database.schema_version()


def test_a_postgresql_that_may_not_be_written_is_passed_over(
    postgres_server: PostgresServer, migrated_postgres: str
) -> None:
    # Given a server whose sessions are read-only, as a standby's are
    url = postgres_server.url(migrated_postgres)
    read_only = f"{url}&options=-c%20default_transaction_read_only%3Don"
    # Then it is not taken where one is asked for that can be written, and is where not
    with closing(Database(read_only)) as database:
        assert database.schema_version() is not None
    with (
        closing(Database(f"{read_only}&target_session_attrs=read-write")) as database,
        pytest.raises(StorageUnavailable),
    ):
        database.schema_version()


def test_a_primary_that_was_made_a_standby_is_left_with_all_its_connections(
    postgres_server: PostgresServer, migrated_postgres: str
) -> None:
    with closing(Database(postgres_server.url(migrated_postgres))) as database:
        # Given two connections behind a proxy, when their server has become read-only
        with database.read() as one, database.read() as other:
            for connection in (one, other):
                connection.exec_driver_sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        # When somebody writes, that is told
        with pytest.raises(StorageUnavailable), database.write() as connection:
            connection.execute(text("DELETE FROM counters"))
        # Then whoever comes next reaches the one that has taken its place
        with database.write() as connection, database.write() as beside:
            for one in (connection, beside):
                one.execute(text("DELETE FROM counters WHERE name = 'nothing'"))


def test_of_several_hosts_the_one_that_can_be_written_is_taken_unless_the_url_says_otherwise(
    postgres_server: PostgresServer, migrated_postgres: str
) -> None:
    # Given two hosts whose sessions are read-only, as a standby's are
    url = postgres_server.url(migrated_postgres)
    alive = url.partition("host=")[2]
    several = url.replace(f"host={alive}", f"host={alive},{alive}&options=-c%20default_transaction_read_only%3Don")
    # Then neither is taken
    with pytest.raises(StorageUnavailable), closing(Database(several)) as database:
        database.schema_version()
    # Unless it is said that any will do
    with closing(Database(f"{several}&target_session_attrs=any")) as database:
        assert database.schema_version() is not None


def test_a_pooler_that_nobody_noticed_is_noticed_by_its_first_error(
    postgres_server: PostgresServer, migrated_postgres: str
) -> None:
    counters.take()
    with closing(Database(postgres_server.url(migrated_postgres))) as database:

        @retried
        def look(often: int = 1) -> Any:
            with database.read() as connection:
                for _ in range(often):
                    connection.execute(text("SELECT count(*) FROM counters WHERE value > 3"))
                return connection.connection.driver_connection

        # Given a statement that was prepared, and a transaction that is handed to another server process
        assert look(10).prepare_threshold
        with database.read() as connection:
            # (by a block of code, so that the driver does not hear of it)
            connection.exec_driver_sql("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
        # When it is asked again, then it is answered, by a connection that prepares nothing
        assert look(10).prepare_threshold is None
        assert counters.take()["conflicts_retried"] == 1
