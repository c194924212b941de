"""A rolling upgrade under load: processes of the version before beside today's, over one PostgreSQL and one Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.database import SCHEMA_VERSION, Database
from storage.migrations import migrate
from tests.faults import processes
from tests.faults.forms import full
from tests.faults.running import running_mill
from tests.upgrades.versions import checked_out, previous_schema, same_schema


@full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("which", [previous_schema, same_schema], ids=lambda which: which.__name__)
def test_a_rolling_upgrade_loses_nothing_and_does_nothing_twice(which: object, tmp_path: Path) -> None:
    assert callable(which)
    version = checked_out(which(), tmp_path)
    old = {processes.ROOT: str(tmp_path), "FAULTS_PAUSE_PER_TEXT": "0.01"}
    new = {"FAULTS_PAUSE_PER_TEXT": "0.01"}
    # Given two machines of the version before, in the midst of a job that its own producer has submitted
    with running_mill("postgresql", workers=0, made=lambda database: migrate(database, version)) as mill:
        first, second = (mill.start_supervisor(**old) for _ in range(2))
        mill.wait_for(lambda: mill.ready_workers() == 2, what="the old workers to be ready")
        mill.environment |= old
        mill.start_producer(3_000, length=2_000)
        mill.wait_for(lambda: mill.commits() > 3, what="a job in its midst")
        mill.environment = {name: value for name, value in mill.environment.items() if name != processes.ROOT} | new
        # When the schema is migrated under them, then they work on
        database = Database(mill.database)
        migrate(database)
        database.check_schema()
        database.close()
        mill.seconds_until_progress()
        # When a worker process of the old version dies, then what it held is done by others
        held = int(mill.sql("SELECT count(*) FROM chunks WHERE state = 'leased'")[0][0])
        mill.kill(next(pid for pid in mill.worker_pids() if str(tmp_path) in _environment(pid)))
        mill.seconds_until_progress()
        if version != SCHEMA_VERSION:
            # And none takes its place there, as its supervisor says why
            mill.wait_for(lambda: "newer than this program knows" in mill.tails(200_000), what="the reason to be told")
        # When one machine after another is upgraded, and both versions' producers submit
        mill.start_supervisor(**new)
        mill.wait_for(lambda: any(str(tmp_path) not in _environment(pid) for pid in mill.worker_pids()))
        mill.submit(1_000, length=2_000)
        mill.stop_supervisor(first)
        mill.seconds_until_progress()
        mill.start_supervisor(**new)
        mill.stop_supervisor(second)
        mill.seconds_until_progress()
        # Then every job ends, nothing is lost, and nothing was written twice
        mill.wait_complete(600)
        mill.judge().assert_clean()
        assert held > 0 and not mill.counters().get("invariants_broken")


def _environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text()
    except OSError:
        return ""
