"""A database goes back in time in the midst of its work; Redis and a worker with leases of before go on.

`make data-test` runs these.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.contract.errors import UnknownJob
from tests.faults.ledger import Ledger
from tests.faults.mill import PATIENCE, Mill
from tests.faults.running import running_mill
from tests.repeating import repeating
from tests.servers import PostgresServer
from tests.storage.forms import full

#: Jobs that are open at most while somebody submits.
_AHEAD = 8

#: Longer than all of this takes: what a frozen worker holds is its own until somebody fences it off.
_LEASE = 300.0


@contextmanager
def submitting(mill: Mill) -> Iterator[None]:
    """Submit small jobs one after the other, in a thread; never many more than are worked on."""
    submitted: list[str] = []

    def submit() -> None:
        submitted.append(mill.submit(60, length=2_000))
        for job_id in submitted[-_AHEAD : -_AHEAD + 1]:
            mill.client.job(job_id).wait(timeout=PATIENCE)

    with repeating(submit) as raised:
        yield
    assert raised == []


def accepted(mill: Mill) -> set[str]:
    """Return the ids of all jobs whose submitters were told that they are accepted."""
    return {str(line.job) for line in mill.ledger.accepted()}


def run(*words: str | Path, **environment: str) -> None:
    """Run a command that must succeed."""
    told = subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stderr


def embedmill(mill: Mill, *words: str) -> None:
    """Run a command of the program as an operator does."""
    run(sys.executable, "-P", "-m", "embedmill", *words, **mill.environment)


def back_up(mill: Mill) -> Path:
    """Back the mill's database up, as docs/data.md says."""
    file = mill.folder / "mill.backup"
    if mill.postgres is None:
        embedmill(mill, "backup", "-o", str(file))
    else:
        run(mill.postgres.binaries / "pg_dump", "--format=custom", f"--file={file}", mill.database)
    return file


def restore(mill: Mill, file: Path) -> None:
    """Put a backup in the place of the mill's database, as docs/data.md says, and fence it."""
    mill.client.close()
    mill._client = None
    mill.plain.close()
    if mill.postgres is None:
        place = Path(mill.database.removeprefix("sqlite:///"))
        for ending in ("-wal", "-shm"):
            place.with_name(place.name + ending).unlink(missing_ok=True)
        shutil.copy(file, place)
    else:
        into(mill.postgres, file)
    embedmill(mill, "fence")


def into(postgres: PostgresServer, file: Path) -> None:
    """Make the database `mill` anew out of a dump."""
    postgres.drop("mill")
    postgres.execute("CREATE DATABASE mill TEMPLATE template0")
    run(postgres.binaries / "pg_restore", "--exit-on-error", f"--dbname={postgres.url('mill')}", file)


@full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_backup_of_the_midst_is_restored_beside_a_redis_and_a_worker_of_later(kind: str) -> None:
    with running_mill(kind, lease=_LEASE, FAULTS_PAUSE_PER_TEXT="0.005") as mill:
        # Given producers that submit and a worker that commits, and a backup made meanwhile
        with submitting(mill):
            mill.wait_for(lambda: mill.commits() > 5 and len(accepted(mill)) > 5, what="a mill at work")
            before, done = accepted(mill), mill.commits()
            file = back_up(mill)
            mill.wait_for(lambda: mill.commits() > done + 5, what="work that the backup knows nothing of")
        # And later a worker that is cut off with its leases, and a message in Redis of a job that is newer still
        mill.wait_for(lambda: mill.plain.value("SELECT count(*) FROM chunks WHERE state = 'leased'"), what="a lease")
        (old,) = mill.supervisors
        frozen = [*mill.worker_pids(), *mill.reconciler_pids(), old.pid]
        if kind == "postgresql":
            for pid in frozen:
                mill.freeze(pid)
        else:  # a file is not replaced under somebody who has it open
            mill.kill_supervisor(old)
        # (the first one may be on its way to the frozen worker, which waits for one)
        newer = [mill.submit(10, options={"priority": "urgent"}) for _ in range(3)]
        assert any(newer[-1].encode() in value for value in mill.redis.contents())
        # When the database goes back to the backup's moment and is fenced, and everybody works on
        restore(mill, file)
        kept = {str(job) for (job,) in mill.sql("SELECT CAST(id AS TEXT) FROM jobs WHERE state <> 'accepting'")}
        open_jobs = mill.open_jobs()
        mill.ledger = only(mill, before | kept)
        for pid in frozen if kind == "postgresql" else []:
            mill.thaw(pid)
        mill.start_supervisor()
        mill.wait_complete()
        # Then everything that was accepted before the backup is there, and something of it was open
        assert before <= kept and open_jobs > 0
        # And of what came after it nothing is known, so that its producers can tell
        for job_id in newer:
            with pytest.raises(UnknownJob):
                mill.client.job(job_id).status()
        # And every job has ended with its own vectors, nothing was written twice, and no message is left for ever
        mill.judge().assert_clean()


def only(mill: Mill, jobs: set[str]) -> Ledger:
    """Return a ledger of all that was intended, in which only some jobs were accepted."""
    ledger = Ledger(mill.folder / "ledger-of-the-backup")
    for line in mill.ledger.lines():
        if line.job is None or line.job in jobs:
            ledger.append(line)
    return ledger
