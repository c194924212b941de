"""The real engine in a real worker process: a text it cannot embed is that text's error, a full device is nobody's."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from producer.job import Job
from storage.contract.options import JobOptions
from tests.faults.bent import bent_mill, total
from tests.faults.forms import FULL, KINDS, full, scenario
from tests.faults.mill import Mill
from tests.faults.process_engine import MELTS, MEMORY, RAISES, SWELLS
from tests.faults.texts import texts_of
from tests.models import make_model
from worker.engine.checkpoint import resolve
from worker.engine.engine import CPU_TOKEN_BUDGET, Engine

TEXTS = 10_000 if FULL else 500

#: How often a batch has to be halved until the device has room for it.
HALVINGS = math.ceil(math.log2(CPU_TOKEN_BUDGET / MEMORY))

#: The one text of a job that is otherwise than the others.
PLACE = TEXTS // 2


@dataclass
class Bench:
    """A mill whose one worker has a real engine, and the same engine without a fault."""

    mill: Mill
    model: str
    engine: Engine

    def done(self, markers: dict[int, str]) -> tuple[Job, list[str]]:
        """Have a job done; return it and its texts."""
        texts = list(texts_of(self.mill.tag(), 0, TEXTS, markers=markers))
        job = self.mill.client.submit(texts, model=self.model)
        self.mill.wait_complete()
        return job, texts

    def check(self, job: Job, texts: list[str], errors: dict[int, str]) -> None:
        """All texts but some have the vector of an engine without a fault, each chunk was written once; delete it.

        The oracle does not know a model's vectors, so the job goes when it has been looked at.
        """
        assert {error.position: error.error.code for error in job.errors()} == errors
        status = job.status()
        assert (status.state, status.succeeded, status.failed) == ("completed", TEXTS - len(errors), len(errors))
        vectors, good = job.vectors(), [place for place in range(TEXTS) if place not in errors]
        wanted = self.engine.embed([texts[place] for place in good], JobOptions()).vectors
        np.testing.assert_allclose(vectors[good], wanted, atol=1e-5, rtol=0)
        log = "SELECT count(*), count(DISTINCT number), (SELECT count(*) FROM chunks WHERE job_id = ?) FROM commit_log"
        ((written, different, chunks),) = self.mill.sql(f"{log} WHERE job_id = ?", job.id, job.id)
        assert written == different == chunks
        # And nobody else was charged
        assert (self.mill.counters().get("workers_died", 0), total(self.mill, "crashes")) == (0, 0)
        job.delete()


@pytest.fixture(scope="module", params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder: Path = make_model(tmp_path_factory.mktemp("model"), hidden=64)
    engine = Engine(resolve(str(folder)))
    given = {"FAULTS_PROGRAM": "tests.faults.process_engine", "EMBEDMILL_MODEL": str(folder)}
    with bent_mill(request.param, lease=10.0, **given) as mill:
        yield Bench(mill, str(folder), engine)
    engine.stop(wait=10)


@full
@scenario("F27")
def test_one_text_of_many_on_which_the_encoder_fails_is_found_by_halving_and_the_only_error(bench: Bench) -> None:
    # When a text on which the encoder fails comes among many
    before = bench.mill.counters().get("batches_bisected", 0)
    job, texts = bench.done({PLACE: RAISES})
    # Then its batch was halved until it was alone
    halved = bench.mill.wait_counted("batches_bisected", before) - before
    assert halved <= math.log2(CPU_TOKEN_BUDGET)
    bench.mill.record("F27", "batches cut in half", halved)
    # And it alone has an error
    bench.check(job, texts, {PLACE: "encoder_failed"})


@full
@scenario("F32")
def test_a_vector_that_is_not_a_number_is_tried_again_and_never_stored(bench: Bench) -> None:
    # When the encoder makes NaN of one text among many
    before = bench.mill.counters().get("vectors_refused", 0)
    job, texts = bench.done({PLACE: MELTS})
    # Then its vector was refused, once
    assert bench.mill.wait_counted("vectors_refused", before) == before + 1
    # And it alone has an error
    bench.check(job, texts, {PLACE: "bad_vector"})


@scenario("F30")
def test_a_device_out_of_memory_gets_smaller_batches_and_costs_no_text(bench: Bench) -> None:
    # When the device has memory for less than a third of a batch of a job's texts
    before = bench.mill.counters().get("budgets_halved", 0)
    job, texts = bench.done(dict.fromkeys(range(TEXTS), SWELLS))
    # Then batches were halved, at most as often as each core that had a whole one had to, and never again
    bench.mill.wait_counted("budgets_halved", before)
    bench.check(job, texts, {})
    halved = bench.mill.counters()["budgets_halved"] - before
    assert halved <= HALVINGS * len(os.sched_getaffinity(0))
    bench.mill.record("F30", "budgets halved", halved)
