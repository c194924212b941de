"""Rows that make no sense: what they belong to ends with an error, and everybody else is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from producer.job import Job
from tests.faults.forms import KINDS_POSTGRES_FIRST, scenario
from tests.faults.mill import Mill
from tests.faults.running import running_mill

LENGTH = 2_000


@pytest.fixture(params=KINDS_POSTGRES_FIRST, scope="module")
def mill(request: pytest.FixtureRequest) -> Iterator[Mill]:
    # Whoever stands still for a while is to keep what he has, and his life.
    with running_mill(request.param, lease=600.0, FAULTS_SILENCE="600") as mill:
        yield mill


def spoil_options(mill: Mill, job: Job) -> None:
    mill.sql("""UPDATE jobs SET options = '{"colour": "blue"}' WHERE id = ?""", job.id)


def spoil_options_wholly(mill: Mill, job: Job) -> None:
    mill.sql("UPDATE jobs SET options = '[7]' WHERE id = ?", job.id)


def spoil_texts(mill: Mill, job: Job) -> None:
    mill.sql(f"UPDATE inputs SET texts = CAST('nonsense' AS {blob(mill)}) WHERE job_id = ? AND number = 0", job.id)


def blob(mill: Mill) -> str:
    return "BLOB" if mill.postgres is None else "BYTEA"


def submit_spoiled(mill: Mill, spoil: Callable[[Mill, Job], None], failures: int, texts: int = 100) -> Job:
    """Submit a job that nobody does before it is spoiled; beside the ledger, since its end is not its texts'."""
    worker = mill.worker_pids()[0]
    mill.freeze(worker)
    job = mill.client.submit([f"{number} ".ljust(LENGTH, "x") for number in range(texts)])
    spoil(mill, job)
    mill.sql("UPDATE chunks SET failures = ? WHERE job_id = ?", failures, job.id)
    mill.thaw(worker)
    return job


def forget(mill: Mill, job: Job) -> None:
    """Delete what the oracle could not judge."""
    job.delete()
    mill.judge().assert_clean()


@scenario("F44")
@pytest.mark.parametrize("spoil", [spoil_options, spoil_options_wholly])
def test_a_job_whose_options_make_no_sense_fails_and_others_are_done(
    mill: Mill, spoil: Callable[[Mill, Job], None]
) -> None:
    bad = submit_spoiled(mill, spoil, 0)
    good = mill.submit(300, length=LENGTH)
    mill.wait_complete()
    status = bad.status()
    assert status.state == "failed" and (status.error or {})["code"] == "invalid_option"
    assert mill.client.job(good).status().succeeded == 300
    forget(mill, bad)


@scenario("F44")
def test_a_chunk_that_cannot_be_decoded_is_given_up_and_others_are_done(mill: Mill) -> None:
    # Given a job whose one chunk is nonsense, which nine attempts have shown
    before = mill.counters().get("chunks_given_up", 0)
    bad = submit_spoiled(mill, spoil_texts, 9, texts=12)
    good = mill.submit(300, length=LENGTH, options={"priority": "urgent"})
    # When everything is done
    mill.wait_complete()
    # Then its items have an error after the tenth, and nobody else's have one
    assert mill.wait_counted("chunks_given_up", before) == before + 1
    status = bad.status()
    assert (status.state, status.failed, status.succeeded) == ("completed", 12, 0)
    assert {outcome.error.code for outcome in bad.errors() if outcome.error} == {"unexpected"}
    assert mill.sql("SELECT claims, failures FROM chunks WHERE job_id = ?", bad.id) == [(1, 9)]
    assert mill.client.job(good).status().succeeded == 300
    forget(mill, bad)


@scenario("F44")
def test_vectors_that_cannot_be_decoded_keep_no_job_running_for_ever(mill: Mill) -> None:
    # Given a job with a failed item, and a vector matrix that was cut short
    job = mill.client.submit(["a text", "!raise a text"])
    assert job.wait(60).failed == 1
    mill.sql(f"UPDATE results SET vectors = CAST('nonsense' AS {blob(mill)}) WHERE job_id = ?", job.id)
    # When its failed item is sent round again
    before = mill.counters().get("chunks_given_up", 0)
    worker = mill.worker_pids()[0]
    mill.freeze(worker)
    assert job.retry_failed() == 1
    mill.sql("UPDATE chunks SET failures = 9 WHERE job_id = ?", job.id)
    mill.thaw(worker)
    # Then it ends
    mill.wait_complete()
    assert mill.wait_counted("chunks_given_up", before) == before + 1
    assert job.status().failed == 2
    forget(mill, job)


@scenario("F44")
def test_a_model_whose_card_makes_no_sense_keeps_nobody_from_the_others(mill: Mill) -> None:
    # Given a model that some worker has registered with a card that nobody can read
    models = (
        "INSERT INTO models (id, name, revision, precision, card, first_seen, last_seen) VALUES (?, ?, ?, ?, ?, 1, 1)"
    )
    mill.sql(models, "0123456789abcdef", "acme/odd", "rev-1", "float32", '{"colour": "blue"}')
    worker = "INSERT INTO workers (id, model_id, host, pid, device, started_at, last_seen)"
    worker += " SELECT ?, ?, host, 1, device, started_at, last_seen + 600000 FROM workers LIMIT 1"
    mill.sql(worker, "01890000-0000-7000-8000-000000000000", "0123456789abcdef")
    # When Redis forgets a message, so that the reconciler is needed
    before = mill.counters()
    mill.freeze(mill.worker_pids()[0])
    job = mill.submit(300, length=LENGTH)
    mill.redis.cli("FLUSHALL")
    mill.thaw(mill.worker_pids()[0])
    # Then the work goes on
    mill.wait_complete()
    mill.wait_counted("messages_resent", before.get("messages_resent", 0))
    assert mill.client.job(job).status().succeeded == 300
    mill.sql("DELETE FROM workers WHERE pid = 1")
    mill.sql("DELETE FROM models WHERE name = 'acme/odd'")
    mill.judge().assert_clean()
