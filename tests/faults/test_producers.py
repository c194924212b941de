"""Producers that die while they submit, and producers that submit the same thing at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.contract.errors import IdempotencyConflict
from storage.database import Database
from storage.stores import Stores
from tests.faults.forms import FULL, KINDS, full, scenario
from tests.faults.mill import Mill
from tests.faults.rivals import CONFLICT, Threads, client_of, rival_processes, submit_in_process
from tests.faults.running import running_mill
from tests.storage.builders import MODEL, serve

#: Texts of a job that is written in four transactions.
TEXTS = 1_500

#: Where a producer dies: a failpoint, and how often it passes that place alive.
PLACES = [("submit.appended", 0), ("submit.appended", 2), ("submit.sealing", 0)]

ROUNDS = 50 if FULL else 3
THREADS = 100
PROCESSES = 8


@pytest.fixture(params=KINDS, scope="module")
def mill(request: pytest.FixtureRequest) -> Iterator[Mill]:
    with running_mill(request.param) as mill:
        yield mill


def die(mill: Mill, name: str, passes: int, tag: str, key: str) -> None:
    """Have a producer killed when it has passed a place so often."""
    actions = ["stop"] * passes + ["kill"]
    mill.arm(name, actions[0])
    producer = mill.start_producer(TEXTS, tag, length=2_000, key=key)
    for action, following in zip(actions, [*actions[1:], None], strict=True):
        assert mill.wait_fired(name, action) == producer.pid
        if following is not None:
            mill.arm(name, following)
            mill.thaw(producer.pid)
    producer.wait()
    mill.producers.remove(producer)


def unsealed(mill: Mill) -> list[str]:
    return [job_id for (job_id,) in mill.sql("SELECT CAST(id AS TEXT) FROM jobs WHERE state = 'accepting'")]


@scenario("F36")
def test_a_producer_killed_between_the_parts_of_its_job_leaves_nothing_that_anybody_sees(mill: Mill) -> None:
    before = mill.counters().get("jobs_purged", 0)
    torn: set[str] = set()
    for number, (name, passes) in enumerate(PLACES):
        # Given a producer that was killed before its job was whole
        tag, key = f"torn-{number}", f"key-{number}"
        die(mill, name, passes, tag, key)
        (job_id,) = set(unsealed(mill)) - torn
        torn.add(job_id)
        # Then nobody is shown that job, and nobody works on it
        assert job_id not in [status.id for status in mill.client.jobs()]
        assert mill.sql("SELECT count(*) FROM chunks WHERE job_id = ? AND state = 'pending'", job_id) > [(0,)]
        # And the same texts are accepted with the same key
        assert mill.submit(TEXTS, tag, length=2_000, key=key) != job_id
    mill.wait_complete()
    touched = "SELECT count(*) FROM chunks c JOIN jobs j ON j.id = c.job_id WHERE j.state = 'accepting'"
    assert mill.sql(f"{touched} AND (c.state <> 'pending' OR c.claims > 0)") == [(0,)]
    # When nothing was heard of them for long
    database = Database(mill.database)
    time.sleep(0.01)
    start = time.monotonic()
    assert Stores.on(database).purges.mark(abandoned_after=0) == len(torn)
    database.close()
    # Then all that they had written goes
    mill.wait_for(lambda: not unsealed(mill), what="what was torn to be purged")
    mill.record("F36", "seconds until the remains were purged", time.monotonic() - start)
    for table in ("chunks", "inputs", "results"):
        assert mill.sql(f"SELECT count(*) FROM {table} WHERE job_id NOT IN (SELECT id FROM jobs)") == [(0,)]
    assert mill.wait_counted("jobs_purged", before + len(torn) - 1) == before + len(torn)
    mill.judge().assert_clean()


@scenario("F37")
def test_a_producer_killed_before_it_was_told_the_id_gets_the_same_job_the_next_time(mill: Mill) -> None:
    # Given a producer that was killed when its job was accepted, and was told nothing
    mill.arm("submit.sealed", "kill")
    producer = mill.start_producer(40, "untold", length=2_000, key="untold")
    assert mill.wait_fired("submit.sealed", "kill") == producer.pid
    killed = time.monotonic()
    producer.wait()
    mill.producers.remove(producer)
    ((accepted, _),) = jobs_of(mill, "untold")
    # Then the job is done all the same
    mill.wait_for(lambda: jobs_of(mill, "untold") == [(accepted, "completed")], what="the untold job")
    mill.record("F37", "seconds until the job was done that nobody had been told of", time.monotonic() - killed)
    # When the same is submitted again, here and elsewhere
    assert mill.submit(40, "untold", length=2_000, key="untold") == accepted
    assert mill.start_producer(40, "untold", length=2_000, key="untold").wait(60) == 0
    # Then there is the one job, and none for other texts
    assert jobs_of(mill, "untold") == [(accepted, "completed")]
    with pytest.raises(IdempotencyConflict):
        mill.client.submit(["other texts"], idempotency_key="untold")
    mill.judge().assert_clean()


def jobs_of(mill: Mill, key: str) -> list[tuple[str, str]]:
    found = mill.sql("SELECT CAST(id AS TEXT), state FROM jobs WHERE idempotency_key = ?", key)
    return [(job_id, state) for job_id, state in found]


@scenario("F38")
@pytest.mark.timeout(1_200)
def test_a_hundred_threads_with_one_key_make_one_job(stores: Stores, database_url: str, tmp_path: Path) -> None:
    # Given a model that nobody serves now
    stores.workers.leave(serve(stores))
    client = client_of(database_url, str(tmp_path), MODEL)
    rivals = Threads(client, THREADS)
    same, other = ["wheat", "rye"], ["oats"]
    for number in range(ROUNDS):
        # When all submit at once, in every other round some of them other texts
        texts = [other if number % 2 and place % 4 == 0 else same for place in range(THREADS)]
        told = rivals.round(f"key-{number}", texts)
        # Then one job was made; who submitted the same got its id, all others an error
        (job,) = set(told) - {CONFLICT}
        won = {tuple(own) for own, id_ in zip(texts, told, strict=True) if id_ == job}
        lost = {tuple(own) for own, id_ in zip(texts, told, strict=True) if id_ == CONFLICT}
        assert len(won) == 1 and not won & lost
        assert client.jobs(limit=1)[0].id == job
    # And nothing else is left of them
    assert len(client.jobs(limit=ROUNDS + 1)) == ROUNDS
    assert stores.purges.mark(abandoned_after=-1_000) == 0
    rivals.close()
    client.close()


@full
@scenario("F38")
@pytest.mark.timeout(1_200)
def test_processes_with_one_key_make_one_job(stores: Stores, database_url: str, tmp_path: Path) -> None:
    stores.workers.leave(serve(stores))
    with rival_processes(PROCESSES, database_url, str(tmp_path), MODEL) as pool:
        made = set()
        for number in range(ROUNDS):
            told = list(pool.map(submit_in_process, [f"key-{number}"] * PROCESSES, [["wheat", "rye"]] * PROCESSES))
            assert len(set(told)) == 1, told
            made.add(told[0])
    assert len(made) == ROUNDS
    assert set(stores.jobs.list_ids(limit=2 * ROUNDS)) == made
