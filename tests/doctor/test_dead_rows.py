"""Who has dead rows kept is told, and what that costs the jobs that are open."""

from __future__ import annotations

from contextlib import closing

import pytest
from sqlalchemy import text

from storage.checkups import ondeadrows
from storage.checkups.check import Verdict
from storage.database import Database
from storage.migrations import migrate
from storage.stores import Stores
from tests.storage.builders import serve, submit


def test_a_snapshot_that_is_kept_for_long_is_told_of_with_the_jobs_that_it_slows(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a report that reads for long
    monkeypatch.setattr(ondeadrows, "_LONG", 0)
    with closing(Database(postgres_url)) as database, closing(Database(postgres_url)) as reporting:
        migrate(database)
        with reporting.read(one_moment=True) as report:
            pid = report.execute(text("SELECT pg_backend_pid()")).scalar_one()
            # When nothing is to do, then it is told of; and with a job, what it costs
            idle = ondeadrows.transactions(database)
            assert idle.verdict is Verdict.WARNING and "open job" not in idle.found
            stores = Stores.on(database)
            serve(stores)
            submit(stores, 2)
            busy = ondeadrows.transactions(database)
        assert "1 open job gets slower" in busy.found, busy.found
        assert f"pg_terminate_backend({pid})" in str(busy)


def test_nothing_is_told_of_a_database_in_which_nothing_is_kept_for_long(postgres_url: str) -> None:
    with closing(Database(postgres_url)) as database:
        assert ondeadrows.transactions(database).verdict is Verdict.OK
