"""What the doctor says of a database, each ailment given to a real one."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from storage import filesystems
from storage.checkups import ondatabase, onpostgres, onsqlite
from storage.checkups.check import Verdict
from storage.contract.errors import StorageUnavailable
from storage.contract.settings import Settings
from storage.database import SCHEMA_VERSION, Database
from storage.migrations import migrate
from tests.acceptance.shell import until
from tests.doctor.looking import amiss, findings
from tests.faults.proxy import Proxy
from tests.machines.pgbouncer import running_pgbouncer
from tests.servers import PostgresServer, running_postgres
from tests.stack import free_port


def settings(url: str) -> Settings:
    return Settings(database_url=url, redis_url="unix:///nowhere")


def ailments(url: str) -> dict[str, str]:
    """Return what is amiss, with the verdict and the words."""
    found = amiss(ondatabase.area(settings(url)))
    return {name: f"{outcome.verdict}: {outcome}" for name, outcome in found.items()}


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A PostgreSQL on a port, whose settings a test may change."""
    with running_postgres(free_port(), "fsync=on", "full_page_writes=on", "synchronous_commit=on") as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of either kind."""
    if request.param == "sqlite":
        path = tmp_path / "empty.sqlite3"
        path.touch()
        return f"sqlite:///{path}"
    server: PostgresServer = request.getfixturevalue("own_server")
    return server.url(server.create())


def test_a_schema_that_is_missing_old_or_too_new_is_told_of(empty_url: str) -> None:
    with closing(Database(empty_url)) as database:
        assert "Run embedmill migrate" in ailments(empty_url)["schema"]
        migrate(database, "0003")
        assert "Run embedmill migrate" in ailments(empty_url)["schema"] and "0003" in ailments(empty_url)["schema"]
        # And with the right one all is well
        migrate(database)
        assert ailments(empty_url) == {}
        with database.write() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        told = ailments(empty_url)["schema"]
        assert "newer" in told and SCHEMA_VERSION in told and "Upgrade embedmill" in told


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "missing.sqlite3"
    first, *others = findings(ondatabase.area(settings(f"sqlite:///{file}")))
    assert first.outcome.verdict is Verdict.WRONG and first.unreachable and "embedmill migrate" in str(first.outcome)
    assert {other.outcome.verdict for other in others} == {Verdict.NOT_CHECKED}
    assert not file.exists()
    embedded = findings(ondatabase.area(Settings(data_dir=tmp_path)))[0].outcome
    assert "embedmill up" in str(embedded.remedy) and list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_told_of(migrated_sqlite: Path, tmp_path: Path) -> None:
    file = tmp_path / "damaged.sqlite3"
    content = bytearray(migrated_sqlite.read_bytes())
    content[5 * 16384 : 7 * 16384] = b"\x55" * (2 * 16384)
    file.write_bytes(content)
    told = ailments(f"sqlite:///{file}")["integrity"]
    assert told.startswith("wrong") and "restore a backup" in told


def test_a_file_that_is_no_database_is_told_of(tmp_path: Path) -> None:
    file = tmp_path / "novel.sqlite3"
    file.write_text("It was a dark and stormy night." * 1000)
    first = findings(ondatabase.area(settings(f"sqlite:///{file}")))[0].outcome
    assert first.verdict is Verdict.WRONG and "damaged" in first.found


def test_a_file_too_large_to_be_looked_through_in_time_is_left(
    migrated_sqlite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "large.sqlite3"
    file.write_bytes(migrated_sqlite.read_bytes())
    with closing(sqlite3.connect(file)) as connection:
        rows = ((f"row {number}" * 20, number) for number in range(20_000))
        connection.executemany("INSERT INTO counters VALUES (?, ?)", rows)
        connection.commit()
    monkeypatch.setattr(onsqlite, "_PATIENCE", 0.0)
    told = ailments(f"sqlite:///{file}")["integrity"]
    assert told.startswith("not checked") and f"sqlite3 {file} 'PRAGMA quick_check'" in told


def test_a_file_that_every_user_may_read_is_told_of(migrated_sqlite: Path) -> None:
    # Given a file that all may read, where all may come
    with tempfile.TemporaryDirectory(dir="/tmp") as open_folder:
        file = Path(shutil.copy(migrated_sqlite, open_folder))
        file.chmod(0o644)
        Path(open_folder).chmod(0o755)
        told = ailments(f"sqlite:///{file}")["rights"]
        assert told.startswith("warning") and f"chmod o= {file}" in told
        # When nobody may come there, or read it, then all is well
        for place, mode in ((Path(open_folder), 0o700), (file, 0o640)):
            before = place.stat().st_mode
            place.chmod(mode)
            assert "rights" not in ailments(f"sqlite:///{file}")
            place.chmod(before)


def test_a_file_written_without_a_log_is_seen_before_it_is_opened(tmp_path: Path) -> None:
    file = tmp_path / "plain.sqlite3"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE heaps (grain TEXT)")
        connection.commit()
    with closing(Database(f"sqlite:////{tmp_path}/other.sqlite3")) as database:
        database.url = database.url.set(database=str(file))
        told = onsqlite.CHECKS["log"](database)
    assert told.verdict is Verdict.WARNING and "WAL" in told.found


def test_a_network_file_system_is_told_of(migrated_sqlite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems, "_file_system_magic", lambda folder: 0x6969)
    told = ailments(f"sqlite:///{migrated_sqlite}")["file system"]
    assert told.startswith("wrong") and "NFS" in told and "PostgreSQL" in told


def test_a_server_that_is_away_or_refuses_us_is_told_of_without_its_password() -> None:
    first, *others = findings(ondatabase.area(settings(f"postgresql://miller:flour@127.0.0.1:{free_port()}/mill")))
    assert first.outcome.verdict is Verdict.WRONG and first.unreachable
    assert "miller:***@" in first.outcome.found and "flour" not in str(first.outcome)
    assert {other.outcome.verdict for other in others} == {Verdict.NOT_CHECKED}


def test_a_black_hole_holds_nobody_up(own_server: PostgresServer) -> None:
    assert own_server.port is not None
    proxy = Proxy(own_server.port)
    try:
        proxy.hole()
        first, *others = findings(ondatabase.area(settings(own_server.url("postgres", proxy.port))), limit=3)
    finally:
        proxy.close()
    assert first.outcome.verdict is Verdict.WRONG and first.unreachable
    assert {other.outcome.verdict for other in others} == {Verdict.NOT_CHECKED}


def test_one_that_falls_silent_in_the_middle_is_told_of(
    own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own_server.port is not None
    proxy = Proxy(own_server.port)
    version = onpostgres.CHECKS["version"]
    monkeypatch.setitem(onpostgres.CHECKS, "version", lambda database: (proxy.hole(), version(database))[1])
    try:
        area = ondatabase.area(settings(own_server.url("postgres", proxy.port)))
        found = {finding.check: finding for finding in findings(area, limit=15)}
    finally:
        proxy.close()
    assert found["reachable"].outcome.verdict is Verdict.OK
    assert found["version"].outcome.verdict is Verdict.WRONG and found["version"].unreachable
    assert "firewall" in str(found["version"].outcome.remedy)
    assert found["encoding"].outcome.verdict is Verdict.NOT_CHECKED


def test_a_database_that_is_not_utf8_is_told_of(own_server: PostgresServer) -> None:
    own_server.execute("CREATE DATABASE old TEMPLATE template0 ENCODING 'SQL_ASCII'")
    assert "ENCODING 'UTF8'" in ailments(own_server.url("old"))["encoding"]


def _shown(server: PostgresServer, name: str) -> object:
    with psycopg.connect(server.url("postgres")) as connection:
        return connection.execute("SELECT current_setting(%s)", [name]).fetchone()


@pytest.mark.parametrize(
    ("setting", "check", "remedy"),
    [
        ("autovacuum = off", "autovacuum", "ALTER SYSTEM SET autovacuum = on"),
        ("synchronous_standby_names = 'nobody'", "replication", "Start the standby"),
        ("idle_session_timeout = '10min'", "limits", "ALTER ROLE"),
        ("default_transaction_read_only = on", "replication", "default_transaction_read_only = off"),
    ],
)
def test_each_danger_of_a_server_is_told_with_what_to_do(
    own_server: PostgresServer, setting: str, check: str, remedy: str
) -> None:
    name = setting.partition(" ")[0]
    before = _shown(own_server, name)
    own_server.execute(f"ALTER SYSTEM SET {setting}")
    own_server.execute("SELECT pg_reload_conf()")
    try:
        with closing(Database(own_server.url("postgres"))) as database:
            # A backend knows of it at once or a moment later.
            until(lambda: remedy in str(onpostgres.CHECKS[check](database)), f"{setting} to be told of")
            assert onpostgres.CHECKS[check](database).verdict in (Verdict.WARNING, Verdict.WRONG)
    finally:
        own_server.execute(f"ALTER SYSTEM RESET {name}")
        own_server.execute("SELECT pg_reload_conf()")
        # Whoever comes next must find it as it was.
        until(lambda: _shown(own_server, name) == before, f"{setting} to be over")


def test_what_a_loss_of_power_may_take_is_told_of(own_server: PostgresServer, postgres_server: PostgresServer) -> None:
    look = onpostgres.CHECKS["durability"]
    name = own_server.create()
    own_server.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with closing(Database(own_server.url(name))) as database:
        unwaited = look(database)
    assert unwaited.verdict is Verdict.WARNING and "ALTER SYSTEM SET synchronous_commit = on" in str(unwaited.remedy)
    # The other tests' server is made fast in ways that a real one must not be
    with closing(Database(postgres_server.url("postgres"))) as database:
        fast = look(database)
    assert fast.verdict is Verdict.WRONG and "ALTER SYSTEM SET fsync = on" in str(fast.remedy)


def test_a_pooler_between_is_seen(own_server: PostgresServer) -> None:
    look = onpostgres.CHECKS["pooler"]
    with closing(Database(own_server.url("postgres"))) as database:
        assert "no pooler" in look(database).found
    with running_pgbouncer(own_server) as pooler, closing(Database(pooler.url("postgres"))) as database:
        assert "transaction mode" in look(database).found


def test_a_long_transaction_and_a_lock_waited_for_are_told_of(
    own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onpostgres, "_LONG", 0)
    monkeypatch.setattr(onpostgres, "_WAIT", 0)
    name = own_server.create()
    url = own_server.url(name)
    with psycopg.connect(url) as holder, psycopg.connect(url) as waiter:
        pid = holder.info.backend_pid
        holder.execute("CREATE TABLE heaps (grain text)")
        holder.commit()
        holder.execute("LOCK TABLE heaps")
        thread = threading.Thread(target=waiter.execute, args=("SELECT * FROM heaps",))
        thread.start()
        try:
            with closing(Database(url)) as database:
                until(lambda: "waits" not in onpostgres.CHECKS["locks"](database).found, "somebody to wait")
                told = {name: str(onpostgres.CHECKS[name](database)) for name in ("locks", "transactions")}
        finally:
            holder.rollback()
            thread.join()
    assert f"pg_terminate_backend({pid})" in told["transactions"], told
    assert f"pg_terminate_backend({pid})" in told["locks"], told


def test_a_file_that_somebody_else_keeps_locked_is_told_of_with_who_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a file in which somebody has begun to write and does not end
    monkeypatch.setattr(onsqlite, "_TURN", 0.1)
    url = f"sqlite:///{tmp_path / 'mill.sqlite3'}"
    with closing(Database(url, busy_timeout=50)) as database:
        migrate(database)
        assert ailments(url) == {}
        with closing(sqlite3.connect(tmp_path / "mill.sqlite3", isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            # Then the doctor says so, and who it is
            told = ailments(url)
            assert set(told) == {"writing"} and "wrong" in told["writing"]
            assert f"process {os.getpid()} (" in told["writing"]
            # And whoever has to write is told to ask the doctor, and not whether the server runs
            with pytest.raises(StorageUnavailable, match="embedmill doctor names the process"), database.write():
                pass
        assert ailments(url) == {}
