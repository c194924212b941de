"""The commands for what is kept, as an operator types them, over a database of their own."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from producer.datacli import app
from storage.contract.errors import InvalidFile, InvalidOption
from storage.database import Database
from storage.stores import Stores
from tests.storage.builders import finish, serve, submit


def test_export_says_how_much_it_has_written(tmp_path: Path, migrated_sqlite: Path) -> None:
    # Given a database with a job of two texts that has ended and one that is open
    path, archive = tmp_path / "mill.sqlite3", tmp_path / "mill.tar"
    path.write_bytes(migrated_sqlite.read_bytes())
    with closing(Database(f"sqlite:///{path}")) as database:
        stores = Stores.on(database)
        worker = serve(stores)
        finish(stores, submit(stores, 1), 1, worker)
        submit(stores, 2)
    where = ["--database-url", f"sqlite:///{path}"]
    # When all is exported, then jobs, items and bytes are said
    told = CliRunner().invoke(app, ["export", "--all", "-o", str(archive), *where])
    assert told.exit_code == 0
    assert f"2 jobs with 6 items in {archive}, {archive.stat().st_size:,} bytes." in told.stderr


@pytest.mark.parametrize("days", ["inf", "1e300"])
def test_purge_takes_no_days_that_are_none(tmp_path: Path, migrated_sqlite: Path, days: str) -> None:
    path = tmp_path / "mill.sqlite3"
    path.write_bytes(migrated_sqlite.read_bytes())
    told = CliRunner().invoke(app, ["purge", "--older-than", days, "--database-url", f"sqlite:///{path}"])
    assert isinstance(told.exception, InvalidOption)


def test_purge_lets_one_look_first_and_deletes_what_has_ended(tmp_path: Path, migrated_sqlite: Path) -> None:
    # Given a database with two jobs that have ended and one that is open
    path = tmp_path / "mill.sqlite3"
    path.write_bytes(migrated_sqlite.read_bytes())
    with closing(Database(f"sqlite:///{path}")) as database:
        stores = Stores.on(database)
        worker = serve(stores)
        ended, open_job = sorted(submit(stores, 1) for _ in range(2)), submit(stores, 1)
        for job_id in ended:
            finish(stores, job_id, 1, worker)
        where = ["--database-url", f"sqlite:///{path}"]
        # When an operator looks what would go, then it is said and still there
        told = CliRunner().invoke(app, ["purge", "--older-than", "0", "--dry-run", *where])
        assert (told.exit_code, told.stdout.split()) == (0, ended)
        assert "2 jobs would go" in told.stderr
        assert len(stores.jobs.list_ids()) == 3
        # And when it is meant, what has ended is gone
        told = CliRunner().invoke(app, ["purge", "--older-than", "0", *where])
        assert (told.exit_code, told.stdout) == (0, "") and "2 jobs deleted" in told.stderr
        assert stores.jobs.list_ids() == [open_job]
        # And what has ended too short a time ago stays
        finish(stores, open_job, 1, worker)
        assert "0 jobs deleted" in CliRunner().invoke(app, ["purge", "--older-than", "1", *where]).stderr


def test_a_backup_is_not_streamed_and_an_archive_that_is_missing_makes_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, migrated_sqlite: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    # When a backup is to go to stdout, then that is refused, and no file of that name is made
    told = CliRunner().invoke(app, ["backup", "-o", "-", "--database-url", f"sqlite:///{migrated_sqlite}"])
    assert isinstance(told.exception, InvalidOption) and "streamed" in str(told.exception)
    # When an archive is read that is not there, then nothing is made for it
    told = CliRunner().invoke(app, ["import", "missing.tar", "--data-dir", str(tmp_path / "data")])
    assert isinstance(told.exception, InvalidFile) and "There is no file missing.tar" in str(told.exception)
    assert list(tmp_path.iterdir()) == []
