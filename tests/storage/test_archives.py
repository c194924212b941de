"""Jobs that go from one database to another, through an archive or not: the same to the byte, and worked on there."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from storage import archives
from storage.contract.errors import InvalidFile, UnknownJob
from storage.database import Database
from storage.exporting import Exporter
from storage.importing import Imported, Importer
from storage.migrations import migrate
from storage.sheets import Sheet
from storage.stores import Stores
from storage.tables import ChunkRow
from tests.servers import PostgresServer
from tests.storage.archived import COME, archive_of, as_imported, everything, jobs_of_all_kinds, rows
from tests.storage.builders import chunk, claim, finish, result, serve, submit


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Iterator[Database]:
    """An empty migrated database of the other kind."""
    if not database.is_sqlite:
        other = Database(f"sqlite:///{tmp_path / 'elsewhere.sqlite3'}")
        migrate(other)
        yield other
        other.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name: str = request.getfixturevalue("migrated_postgres")
    server.empty(name)
    other = Database(server.url(name))
    yield other
    other.close()


def test_jobs_in_every_state_come_through_an_archive_to_the_byte_and_twice_is_once(
    stores: Stores, database: Database, elsewhere: Database
) -> None:
    # Given jobs in every state, with a key, a webhook and a file
    made = jobs_of_all_kinds(stores)
    before = everything(database)
    # When they are exported, and imported into a database of the other kind
    archive = archive_of(database)
    assert everything(database) == before
    importer = Importer(elsewhere)
    done = importer.take(archives.read(io.BytesIO(archive)))
    # Then every row is there as it was, but that nobody holds anything
    assert (done.jobs, done.there) == (len(made), 0)
    wanted = as_imported(before)
    found = everything(elsewhere)
    for table in COME:
        assert found[table] == wanted[table], table
    # And a second time changes nothing
    again = Importer(elsewhere).take(archives.read(io.BytesIO(archive)))
    assert (again.jobs, again.there) == (0, len(made))
    assert everything(elsewhere) == found
    # And the invariants hold, and what is open is worked on to its end, with the ids it had
    there = Stores.on(elsewhere)
    assert not there.invariants.check().broken
    worker = serve(there)
    for name, number in (("running", 2), ("running", 3), ("queued", 0), ("queued", 1), ("leased", 0), ("leased", 1)):
        (held,) = claim(there, made[name], number, worker)
        there.leases.commit([(held, result())])
    for name in ("running", "queued", "leased"):
        assert there.statuses.get(made[name]).state == "completed"
    assert there.jobs.retry_failed(made["completed"]) == 2
    assert there.jobs.find_by_key("monday") is not None


def test_some_jobs_are_exported_by_their_ids_and_an_unknown_one_is_told_before_anything_is_written(
    stores: Stores, database: Database, elsewhere: Database
) -> None:
    made = jobs_of_all_kinds(stores)
    with pytest.raises(UnknownJob):
        list(Exporter(database).jobs([made["completed"], "019aca0c-0000-7000-8000-000000000000"]))
    done = Importer(elsewhere).take(Exporter(database).jobs([made["completed"], made["running"]]))
    assert done == Imported(2, 0, 4 + 8)
    assert {row["id"] for row in rows(elsewhere, "jobs")} == {made["completed"], made["running"]}
    assert rows(elsewhere, "keys") == rows(elsewhere, "files") == []


#: Imports an archive, and is killed just before one of its transactions is committed.
DYING = """
import os, sys
from sqlalchemy import event
from storage import archives
from storage.database import Database
from storage.importing import Importer
database = Database(sys.argv[1])
commits = 0
def die(connection):
    global commits
    commits += 1
    if commits == int(sys.argv[3]):
        os.kill(os.getpid(), 9)
event.listen(database.engine, "commit", die)
Importer(database).take(archives.read(open(sys.argv[2], "rb")))
"""


def test_an_import_that_is_killed_goes_on_when_it_is_started_again(
    stores: Stores, database: Database, elsewhere: Database, tmp_path: Path
) -> None:
    made = jobs_of_all_kinds(stores)
    archive = tmp_path / "jobs.tar"
    archive.write_bytes(archive_of(database))
    url = elsewhere.url.render_as_string(hide_password=False)
    seen = set()
    # When an import is killed again and again, each time somewhat later
    for commit in itertools.count(14, 15):
        ended = subprocess.run([sys.executable, "-c", DYING, url, str(archive), str(commit)], timeout=100)
        # Then nobody sees a job that is not whole
        there = Stores.on(elsewhere)
        seen.add(len(there.jobs.list_ids(100)))
        for job_id in there.jobs.list_ids(100):
            assert there.statuses.get(job_id).total == stores.statuses.get(job_id).total
        assert not there.invariants.check().broken
        if ended.returncode == 0:
            break
        assert ended.returncode == -9
    # And in the end all of it is there
    assert len(seen) > 1 and max(seen) == len(made)
    wanted = as_imported(everything(database))
    for table, found in everything(elsewhere).items():
        assert found == wanted[table], table


def test_a_damaged_archive_is_refused_where_it_is_damaged(
    stores: Stores, database: Database, elsewhere: Database
) -> None:
    jobs_of_all_kinds(stores)
    whole = archive_of(database)
    cut = [whole[: len(whole) // 3], whole[: -3 * 10_240], whole[:512], b"", b"flour" * 1_000]
    place = whole.index(b"rye")
    wrong = [whole[:place] + b"oat" + whole[place + 3 :]]
    for archive in cut + wrong:
        with pytest.raises(InvalidFile):
            Importer(elsewhere).take(archives.read(io.BytesIO(archive)))
    assert not Stores.on(elsewhere).invariants.check().broken


def test_a_sheet_that_was_left_out_is_missed(stores: Stores, database: Database) -> None:
    serve(stores)
    submit(stores, 3)
    source, target = io.BytesIO(archive_of(database)), io.BytesIO()
    with tarfile.open(fileobj=source) as old, tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in old:
            if not member.name.endswith("-inputs"):
                new.addfile(member, old.extractfile(member))
    target.seek(0)
    with pytest.raises(InvalidFile, match="missing"):
        list(archives.read(target))


def test_an_archive_of_a_schema_to_come_is_refused_with_what_to_do(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SCHEMA_VERSION", "9001")
    archive = archive_of(database)
    monkeypatch.undo()
    with pytest.raises(InvalidFile, match="schema 9001") as refused:
        list(archives.read(io.BytesIO(archive)))
    assert refused.value.remedy == "Upgrade embedmill on this machine."


def test_a_job_that_changes_while_it_is_read_is_read_again(
    stores: Stores, database: Database, elsewhere: Database
) -> None:
    # Given a job at work
    worker = serve(stores)
    job_id = submit(stores, 40)

    def changing() -> Iterator[Sheet]:
        told = 0
        for sheet in Exporter(database).jobs([job_id]):
            yield sheet
            told += sheet.table == "inputs"
            # When it ends in the midst of its reading
            if told == 1:
                finish(stores, job_id, 40, worker)
                told += 100

    assert Importer(elsewhere).take(changing()) == Imported(1, 0, 80)
    # Then what has come is the whole of it
    for table in ("jobs", "chunks", "inputs", "results"):
        assert rows(elsewhere, table) == rows(database, table)


def test_a_job_that_is_deleted_while_it_is_read_does_not_come(
    stores: Stores, database: Database, elsewhere: Database
) -> None:
    worker = serve(stores)
    gone, kept = submit(stores, 40), submit(stores, 1)
    finish(stores, gone, 40, worker)

    def changing() -> Iterator[Sheet]:
        for sheet in Exporter(database).jobs([gone, kept]):
            yield sheet
            is_read = sheet.table == "inputs" and sheet.rows[0]["job_id"] == gone
            if is_read and gone in stores.jobs.list_ids():
                stores.purges.delete(gone)

    assert Importer(elsewhere).take(changing()) == Imported(1, 0, 2)
    assert [row["id"] for row in rows(elsewhere, "jobs")] == [kept]
    assert {row["job_id"] for row in rows(elsewhere, "chunks")} == {kept}


def test_a_split_chunk_of_an_earlier_attempt_leaves_nothing_behind(
    stores: Stores, database: Database, elsewhere: Database
) -> None:
    # Given an import that was cut off, of a job whose chunk was split only then
    serve(stores)
    job_id = submit(stores, [chunk(0, ("oat", "rye", "bran", "chaff"), ids=["1", "2", "3", "4"])])
    half = list(itertools.islice(Exporter(database).jobs([job_id]), 4))
    Importer(elsewhere).take(half)
    assert Stores.on(elsewhere).jobs.list_ids() == []
    for _ in range(2):
        worker = serve(stores)
        assert claim(stores, job_id, 0, worker)
        stores.leases.release_worker(worker, died=True)
    # When it is done again
    assert Importer(elsewhere).take(Exporter(database).jobs([job_id])) == Imported(1, 0, 4)
    # Then each item is there once
    there = Stores.on(elsewhere)
    assert [o.id for page in there.results.pages(job_id) for o in page.outcomes()] == ["1", "2", "3", "4"]
    assert there.results.find(job_id, "4") is not None
    with elsewhere.read() as connection:
        assert len(connection.execute(select(ChunkRow.number)).all()) == 3
    assert len(rows(elsewhere, "inputs")) == 2
