"""Texts that cannot be embedded: each is its own error, however many processes it ends, and all others have vectors."""

from __future__ import annotations

import math
import time

import pytest

from tests.faults.forms import KINDS, KINDS_POSTGRES_FIRST, full, scenario
from tests.faults.mill import Mill
from tests.faults.running import running_mill

#: A death among others, one for each halving, and three alone.
_AT_THE_ENDS = 4


@scenario("F28")
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_ends_every_process_is_found_and_the_job_beside_it_is_done(kind: str) -> None:
    # Given a worker process, a text that ends it, and a job beside
    with running_mill(kind) as mill:
        job = mill.client.job(mill.submit(2, markers={1: "!segv"}))
        mill.submit(200)
        # When all is done
        mill.wait_complete()
        # Then few deaths have found it
        _assert_found(mill, 2, 1)
        assert (job.status().succeeded, job.status().failed) == (1, 1)


@scenario("F28")
@full
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_ends_every_process_is_found_in_a_big_chunk_and_replayed_alone(kind: str) -> None:
    # Given two worker processes, and one text in a chunk of hundreds that ends them
    with running_mill(kind, slots=2, pause=0.05) as mill:
        job = mill.client.job(mill.submit(700, tag="big", markers={333: "!segv"}))
        (size,) = mill.sql("SELECT max(size) FROM chunks")[0]
        start = time.monotonic()
        healthy = mill.client.job(mill.submit(500, length=2_000))
        healthy.wait(timeout=200)
        mill.record("F28", "seconds of the job beside it", time.monotonic() - start)
        mill.wait_complete(200)
        mill.record("F28", "seconds until the text was found", time.monotonic() - start)
        # Then few deaths have found it
        mill.record("F28", "deaths", _assert_found(mill, size, 1))
        assert [error.position for error in job.errors()] == [333]
        # And when it is tried again, nothing but it is done again
        written, poisoned = mill.commits(), mill.counters()["texts_poisoned"]
        job.retry_failed()
        mill.wait_complete(200)
        mill.wait_counted("texts_poisoned", poisoned)
        assert mill.commits() == written + 1
        assert (job.status().succeeded, job.status().failed) == (699, 1)


@scenario("F28")
@full
@pytest.mark.parametrize("kind", KINDS_POSTGRES_FIRST)
def test_two_texts_of_one_chunk_that_end_every_process_are_both_found(kind: str) -> None:
    # Given two texts of one chunk that end the process
    with running_mill(kind) as mill:
        job = mill.client.job(mill.submit(16, length=2_000, markers={3: "!segv", 12: "!exit"}))
        # When the job is done
        mill.wait_complete(200)
        # Then both are found, and nobody else
        mill.record("F28", "deaths for two texts", _assert_found(mill, 16, 2))
        assert [error.position for error in job.errors()] == [3, 12]


def _assert_found(mill: Mill, size: int, culprits: int) -> int:
    """Assert that texts of a chunk were found to be poison with few deaths; return how many there were."""
    assert mill.wait_counted("texts_poisoned", culprits - 1) == culprits
    assert mill.wait_counted("chunks_split") >= math.floor(math.log2(size))
    deaths = mill.wait_counted("workers_died")
    assert deaths <= culprits * (_AT_THE_ENDS + math.ceil(math.log2(size)))
    return deaths
