"""Backups made beside whoever works, restored elsewhere; and who worked before a restore, after it."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from storage.attempts import Claim
from storage.backups import back_up, compact, fence
from storage.contract.errors import InvalidFile, InvalidOption, OutputExists, StorageUnavailable
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.database import Database
from storage.migrations import migrate
from storage.rights import Side, grant, missing
from storage.stores import Stores
from storage.tables import ChunkRow
from tests.repeating import repeating
from tests.servers import PostgresServer
from tests.storage.builders import CARD, accept, claim, finish, result, serve, submit
from tests.storage.rolemaking import NAMES, as_role, make_roles


@contextmanager
def working(stores: Stores) -> Iterator[Callable[[], list[str]]]:
    """Submit and finish small jobs in a thread; yields what tells those that are accepted by now."""
    accepted: list[str] = []
    worker = serve(stores)

    def work() -> None:
        job_id = submit(stores, 2)
        accepted.append(job_id)
        if len(accepted) % 3:
            finish(stores, job_id, 2, worker, failed=[1])

    with repeating(work) as raised:
        yield lambda: list(accepted)
    assert raised == []


@contextmanager
def restored(database: Database, folder: Path, server: PostgresServer | None) -> Iterator[Database]:
    """Back a database up, and open what comes of it elsewhere."""
    if server is None:
        target = folder / "backup.sqlite3"
        back_up(database, target)
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert not list(folder.glob("backup.sqlite3-*")) and not list(folder.glob("*.part"))
        elsewhere = folder / "elsewhere" / "embedmill.sqlite3"
        elsewhere.parent.mkdir()
        shutil.move(target, elsewhere)
        with closing(Database(f"sqlite:///{elsewhere}")) as copy:
            yield copy
        return
    binaries, dump = server.binaries, server.folder / f"{new_id()}.dump"
    name = server.create()
    url = server.url(str(database.url.database))
    given = {"check": True, "timeout": 60, "env": os.environ | {"PGUSER": "postgres"}}
    subprocess.run([binaries / "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={url}"], **given)  # type: ignore[call-overload]
    subprocess.run([binaries / "pg_restore", f"--dbname={server.url(name)}", dump], **given)  # type: ignore[call-overload]
    with closing(Database(server.url(name))) as copy:
        yield copy
    server.drop(name)


@pytest.fixture
def server(request: pytest.FixtureRequest, database: Database) -> PostgresServer | None:
    """The PostgreSQL that the database is in, None on SQLite."""
    return None if database.is_sqlite else request.getfixturevalue("postgres_server")


def test_a_backup_made_under_load_holds_all_that_was_accepted_before_it(
    stores: Stores, database: Database, tmp_path: Path, server: PostgresServer | None
) -> None:
    # Given a database in which somebody works
    with working(stores) as accepted:
        while len(accepted()) < 8:
            threading.Event().wait(0.01)
        before = accepted()
        # When it is backed up and restored to another place
        with restored(database, tmp_path, server) as copy:
            copy.check_schema()
            there = Stores.on(copy)
            # Then everything that was accepted before is there, and what is there is consistent
            found = there.jobs.list_ids(10_000)
            assert set(before) <= set(found)
            assert not there.invariants.check().broken
            # And what is open is worked on to its end, with no message from before
            fence(copy)
            worker = serve(there)
            for job_id in found:
                for number in range(2):
                    for held in claim(there, job_id, number, worker):
                        there.leases.commit([(held, result())])
                assert there.statuses.get(job_id).state == "completed"
                assert all(o.vector is not None or o.error for p in there.results.pages(job_id) for o in p.outcomes())


def test_who_worked_before_a_restore_changes_nothing_after_it(
    stores: Stores, database: Database, tmp_path: Path, server: PostgresServer | None
) -> None:
    # Given a worker that has claimed after the backup's moment what nobody had claimed then
    serve(stores)
    job_id = submit(stores, 2)
    with restored(database, tmp_path, server) as copy:
        old = new_id()
        held = [stores.leases.claim(Pointer(job_id, number), old, CARD.id, 0)[0] for number in range(2)]
        there = Stores.on(copy)
        # When the database goes back in time, is fenced, and another one claims the same there
        assert fence(copy) == 2
        worker = serve(there)
        (first,) = claim(there, job_id, 0, worker)
        # Then what the old one holds is nothing there: neither what the other has, nor what nobody has
        assert first.token != held[0].token
        assert there.leases.heartbeat(old, [one.key for one in held]) == set()
        assert there.leases.commit([(one, result(value=9.0)) for one in held]) == (set(), [])
        # And the other brings it to its end, also the second time round
        there.leases.commit([(first, result(failed=[0]))])
        finish_second(there, job_id, worker)
        assert there.statuses.get(job_id).state == "completed"
        assert fence(copy) == 1
        assert there.jobs.retry_failed(job_id) == 1
        (again,) = claim(there, job_id, 0, worker)
        assert again.token > first.token + 1


@pytest.mark.parametrize(("jobs", "chunks"), [(256, 8_192), (2, 8_192), (256, 3), (1, 1)])
def test_every_chunk_is_fenced_once_however_many_go_into_a_transaction(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch, jobs: int, chunks: int
) -> None:
    # Given jobs of few and many chunks, all of which a worker holds, and one that is still being submitted
    monkeypatch.setattr("storage.backups._JOBS", jobs)
    monkeypatch.setattr("storage.backups._CHUNKS", chunks)
    worker = serve(stores)
    held = [one for size in (1, 4, 1, 2, 1) for one in held_by(stores, submit(stores, size), size, worker)]
    accept(stores, 2)
    # When the database is fenced, then none of them is the worker's any more, and each counts once
    assert fence(database) == len(held) + 2
    assert stores.leases.heartbeat(worker, [one.key for one in held]) == set()
    with database.read() as connection:
        assert set(connection.execute(select(ChunkRow.state)).scalars()) == {"pending"}
        tokens = list(connection.execute(select(ChunkRow.token)).scalars())
    assert len(tokens) == len(held) + 2 and max(tokens) - min(tokens) <= 1


def held_by(stores: Stores, job_id: str, chunks: int, worker: str) -> list[Claim]:
    return [stores.leases.claim(Pointer(job_id, number), worker, CARD.id, 0)[0] for number in range(chunks)]


def test_a_restored_database_gives_each_role_what_it_had(postgres_server: PostgresServer) -> None:
    # Given a database with roles of their own for owner, service and workers, dumped by its owner
    name, elsewhere = postgres_server.create(), postgres_server.create()
    url, there = postgres_server.url(name), postgres_server.url(elsewhere)
    make_roles(url)
    with closing(as_role(url, "embedmill_owner")) as owner:
        migrate(owner)
        grant(owner, NAMES)
        stores = Stores.on(owner)
        serve(stores)
        job_id = submit(stores, 1)
    dump = postgres_server.folder / f"{new_id()}.dump"
    given = {"check": True, "timeout": 60, "env": os.environ | {"PGUSER": "postgres"}}
    owners = url.replace("postgres@", "embedmill_owner@", 1)
    subprocess.run([postgres_server.binaries / "pg_dump", "--format=custom", f"--file={dump}", owners], **given)  # type: ignore[call-overload]
    # When an administrator makes the roles in an empty database and restores it there, as docs/data.md says
    make_roles(there)
    restoring = [postgres_server.binaries / "pg_restore", "--exit-on-error", f"--dbname={there}", dump]
    subprocess.run(restoring, **given)  # type: ignore[call-overload]
    # Then the owner fences it, each side has its rights, and the rest is worked on
    with closing(as_role(there, "embedmill_owner")) as owner:
        assert fence(owner) == 1
        owner.check_schema()
    for side, role in NAMES.items():
        with closing(as_role(there, role)) as one, one.read() as connection:
            assert missing(connection, side) == []
    with closing(as_role(there, NAMES[Side.WORKER])) as worker:
        stores = Stores.on(worker)
        finish(stores, job_id, 1, serve(stores))
        assert stores.statuses.get(job_id).state == "completed"
    for one_name in (name, elsewhere):
        postgres_server.drop(one_name)


def finish_second(stores: Stores, job_id: str, worker: str) -> None:
    (second,) = claim(stores, job_id, 1, worker)
    stores.leases.commit([(second, result())])


def test_a_backup_replaces_no_file_unasked_and_postgresql_is_left_to_its_own_tools(
    stores: Stores, database: Database, tmp_path: Path
) -> None:
    target = tmp_path / "backup.sqlite3"
    target.write_text("rye")
    if not database.is_sqlite:
        with pytest.raises(InvalidOption, match="its own tools"):
            back_up(database, target, force=True)
        with pytest.raises(InvalidOption, match="no room back"):
            compact(database)
        return
    with pytest.raises(OutputExists):
        back_up(database, target)
    assert target.read_text() == "rye"
    assert back_up(database, target, force=True) == target.stat().st_size


def test_a_copy_goes_where_a_killed_one_has_left_its_file_and_nowhere_else(
    tmp_path: Path, migrated_sqlite: Path
) -> None:
    path, target = tmp_path / "mill.sqlite3", tmp_path / f"{'量' * 80}.backup"
    shutil.copy(migrated_sqlite, path)
    with closing(Database(f"sqlite:///{path}")) as database:
        # Given what a process of the same number has left, as each of a container has, when it was killed
        (tmp_path / f".backup.sqlite3.{os.getpid()}.part").touch()
        # When a copy is made there, or under a name as long as names may be, then it is
        for place in (tmp_path / "backup.sqlite3", target):
            assert back_up(database, place) == place.stat().st_size
        # And neither a folder nor the database itself is replaced
        with pytest.raises(InvalidFile, match="is a folder"):
            back_up(database, tmp_path, force=True)
        with pytest.raises(InvalidOption, match="the database itself"):
            back_up(database, path, force=True)


def test_what_stands_in_the_way_of_a_copy_is_told_in_our_words(tmp_path: Path, migrated_sqlite: Path) -> None:
    path, target = tmp_path / "mill.sqlite3", tmp_path / "backup.sqlite3"
    shutil.copy(migrated_sqlite, path)
    with closing(Database(f"sqlite:///{path}", busy_timeout=50)) as database:
        # Given somebody who writes for longer than anybody waits
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageUnavailable, match="locked"):
                compact(database)
        # Given no room for the copy
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
        try:
            with pytest.raises(StorageUnavailable, match="cannot be read or written"):
                back_up(database, target)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    # Then nothing is left of it
    assert not target.exists() and not list(tmp_path.glob(".backup*"))


def test_a_file_of_before_learns_by_compacting_to_give_room_back(tmp_path: Path, migrated_sqlite: Path) -> None:
    path = tmp_path / "old.sqlite3"
    path.write_bytes(migrated_sqlite.read_bytes())
    with closing(Database(f"sqlite:///{path}")) as database:
        stores = Stores.on(database)
        worker = serve(stores)
        job_id = submit(stores, 3)
        with database.engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            for statement in ("PRAGMA auto_vacuum = NONE", "VACUUM"):
                driver.execute(statement)
            assert driver.execute("PRAGMA auto_vacuum").fetchone() == (0,)
        compact(database)
        with database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA auto_vacuum").scalar() == 2
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        finish(stores, job_id, 3, worker)
