"""Texts that go before their job: its vectors, ids and errors stay, and it cannot be retried."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from storage.contract.errors import WrongState
from storage.contract.keeping import DAY, Keeping
from storage.database import Database, now_ms
from storage.outcomes import Outcome
from storage.stores import Stores
from storage.tables import InputRow, JobRow
from tests.storage.builders import chunk, finish, serve, submit

#: Removes texts as the reconciler does, and dies inside the transaction of a given step.
DYING = """
import os, sys
from sqlalchemy import event
from storage.database import Database
from storage.stores import Stores
database = Database(sys.argv[1])
commits = 0
def die(connection):
    global commits
    commits += 1
    if commits == int(sys.argv[3]):
        os._exit(9)
event.listen(database.engine, "commit", die)
step = getattr(Stores.on(database).purges, sys.argv[4])
after = -1
while after is not None:
    after = step(sys.argv[2], after)
"""


def bytes_of_texts(database: Database, job_id: str) -> int:
    with database.read() as connection:
        wanted = select(func.sum(func.length(InputRow.texts))).where(InputRow.job_id == job_id)
        return int(connection.execute(wanted).scalar() or 0)


def outcomes(stores: Stores, job_id: str) -> list[Outcome]:
    return [outcome for page in stores.results.pages(job_id) for outcome in page.outcomes()]


def told(found: list[Outcome]) -> list[tuple[object, ...]]:
    return [(o.position, o.id, o.status, None if o.vector is None else o.vector.tobytes(), o.error) for o in found]


def remove_texts(stores: Stores) -> list[str]:
    stores.purges.mark(abandoned_after=60_000)
    marked = stores.purges.marked_texts()
    for job_id in marked:
        after: int | None = -1
        while after is not None:
            after = stores.purges.step_texts(job_id, after)
    return marked


def test_texts_kept_for_no_day_go_at_the_end_and_all_else_stays(stores: Stores, database: Database) -> None:
    # Given jobs whose texts are to go at their end: one that has ended with an error, one that has not
    worker = serve(stores)
    some = [chunk(0, ids=["oat", "rye"]), chunk(1, ids=["bran", "chaff"])]
    ended, running = (submit(stores, some, keeping=Keeping(30, 0)) for _ in range(2))
    finish(stores, ended, 2, worker, failed=[1])
    before = told(outcomes(stores, ended))
    # When the reconciler looks
    assert remove_texts(stores) == [ended]
    # Then its texts are gone, and nobody looks for them again
    assert bytes_of_texts(database, ended) == 0 < bytes_of_texts(database, running)
    assert stores.purges.marked_texts() == [] and stores.purges.mark(60_000) == 0
    # And its vectors, ids and errors are what they were
    assert told(outcomes(stores, ended)) == before
    assert stores.results.find(ended, "chaff") is not None
    # And it says so
    status = stores.statuses.get(ended)
    assert status.texts_kept_until is not None and status.finished_at is not None and status.kept_until is not None
    assert status.finished_at <= status.texts_kept_until < status.kept_until
    assert (status.keep_days, status.keep_texts_days) == (30, 0)
    # And a retry is told why it comes too late
    with pytest.raises(WrongState, match=r"texts of job .* are gone since"):
        stores.jobs.retry_failed(ended)
    assert stores.jobs.get(ended).state == "completed"
    assert not stores.invariants.check().broken


def test_a_retry_that_comes_in_time_keeps_the_texts_until_the_next_end(stores: Stores, database: Database) -> None:
    # Given an ended job whose texts stay for another day
    worker = serve(stores)
    job_id = submit(stores, 1, keeping=Keeping(30, 1))
    finish(stores, job_id, 1, worker, failed=[0])
    # When it is sent round again, and the day passes
    assert stores.jobs.retry_failed(job_id) == 1
    assert stores.statuses.get(job_id).texts_kept_until is None
    # Then its texts are there for whoever embeds them
    assert remove_texts(stores) == []
    finish(stores, job_id, 1, worker)
    assert stores.jobs.get(job_id).state == "completed"
    # And go a day after its second end
    with database.write() as connection:
        connection.execute(update(JobRow).values(texts_until=JobRow.texts_until - DAY))
    assert remove_texts(stores) == [job_id]


def test_texts_that_are_kept_longer_than_the_job_go_with_it(stores: Stores, database: Database) -> None:
    worker = serve(stores)
    job_id = submit(stores, 1, keeping=Keeping(1, 30))
    finish(stores, job_id, 1, worker)
    status = stores.statuses.get(job_id)
    assert status.texts_kept_until == status.kept_until
    with database.write() as connection:
        connection.execute(update(JobRow).values(kept_until=now_ms()))
    assert stores.purges.mark(60_000) == 1
    assert stores.purges.marked() == [job_id]


@pytest.mark.parametrize("step", ["step_texts", "step"])
def test_a_removal_that_is_killed_goes_on_where_it_was(
    stores: Stores, database: Database, database_url: str, step: str
) -> None:
    # Given a job of many chunks, and another
    worker = serve(stores)
    job_id, other = submit(stores, 200, keeping=Keeping(30, 0)), submit(stores, 3, keeping=Keeping(30, 1))
    finish(stores, job_id, 200, worker)
    kept = bytes_of_texts(database, other)
    stores.purges.mark(60_000)
    if step == "step":
        with database.write() as connection:
            connection.execute(update(JobRow).where(JobRow.id == job_id).values(deleted_at=now_ms()))
    whole = bytes_of_texts(database, job_id)
    # When whoever removes it is killed just before its second step is committed
    command = [sys.executable, "-c", DYING, database_url, job_id, "2", step]
    assert subprocess.run(command, timeout=60).returncode == 9
    # Then one step is done, the other undone
    assert 0 < bytes_of_texts(database, job_id) < whole
    # And the next one brings it to its end, and touches no other job
    after: int | None = -1
    while after is not None:
        after = getattr(stores.purges, step)(job_id, after)
    assert bytes_of_texts(database, job_id) == 0
    assert bytes_of_texts(database, other) == kept
    assert stores.purges.marked() == [] and stores.purges.marked_texts() == []


def test_a_deleted_text_is_in_no_file_of_sqlite_and_its_room_is_given_back(
    tmp_path: Path, migrated_sqlite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a file with many jobs, whose texts hold a word that is found in it as it stands
    monkeypatch.setattr("storage.texts.pack", lambda texts: b"".join(texts))
    path = tmp_path / "mill.sqlite3"
    path.write_bytes(migrated_sqlite.read_bytes())
    canary = "xyzzy-plugh-" * 400
    with closing(Database(f"sqlite:///{path}")) as database:
        stores = Stores.on(database)
        worker = serve(stores)
        jobs = [submit(stores, [chunk(n, [canary] * 16) for n in range(20)], keeping=Keeping(0)) for _ in range(60)]
        for job_id in jobs:
            finish_all(stores, job_id, worker)
        assert b"xyzzy-plugh" in path.read_bytes() + path.with_name(path.name + "-wal").read_bytes()
        # When they go
        stores.purges.mark(60_000)
        for job_id in stores.purges.marked():
            stores.purges.purge(job_id)
        size = path.stat().st_size
        while database.give_back():
            pass
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        # Then the word is nowhere, and most of the room is the disk's again
        for file in path.parent.glob("mill.sqlite3*"):
            assert b"xyzzy-plugh" not in file.read_bytes(), file
        assert path.stat().st_size < size
        with database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def finish_all(stores: Stores, job_id: str, worker: str) -> None:
    stores.jobs.cancel(job_id)
