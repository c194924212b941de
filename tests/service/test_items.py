"""One item by its position or its id, and what type its vector has: the same over storage and over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from embedmill import Client, Job
from storage.contract import errors
from storage.outcomes import Outcome
from tests.service.submitted import WAITS

IDS = ["a/1", "b?&=#", "三", "nul\n", "long"]
TEXTS = ["Rye.", "Wheat.", "Oats.", "Millet.", "grain " * 40]


@pytest.fixture(scope="module", params=["float32", "float16"])
def stored(request: pytest.FixtureRequest, clients: dict[str, Client]) -> Iterator[tuple[str, str]]:
    """The type that a job keeps, and its id."""
    job = clients["storage"].submit(TEXTS, ids=IDS, store_dtype=request.param, on_long="error", max_length=16)
    job.wait(60)
    yield request.param, job.id
    job.delete()


@pytest.fixture
def job(client: Client, stored: tuple[str, str]) -> Job:
    """That job, by either client."""
    return client.job(stored[1])


def _same(one: Outcome, other: Outcome) -> bool:
    plain = [(o.position, o.id, o.status, o.tokens, o.truncated, o.error) for o in (one, other)]
    return plain[0] == plain[1] and np.array_equal(*(np.array(o.vector) for o in (one, other)))


def test_an_item_is_found_by_its_position_and_by_its_id(job: Job) -> None:
    for outcome in job.results():
        assert _same(job.item(position=outcome.position), outcome)
        assert _same(job.item(position=np.int64(outcome.position)), outcome)  # type: ignore[arg-type]
        assert outcome.id is not None and _same(job.item(id=outcome.id), outcome)
    failed = job.item(id="long")
    assert failed.status == "failed" and failed.vector is None and failed.error is not None


def test_vectors_are_of_the_type_that_is_kept_and_read_only(job: Job, stored: tuple[str, str]) -> None:
    *good, bad = job.results()
    for outcome in (*good, job.item(position=0), job.item(id=IDS[1])):
        assert outcome.vector is not None and outcome.vector.dtype == np.dtype(stored[0])
        assert outcome.vector.shape == (384,) and not outcome.vector.flags.writeable
    assert bad.vector is None and [one.position for one in job.errors()] == [4]
    # And the whole matrix is float32, whatever is kept
    assert job.vectors().dtype == np.float32
    assert np.array_equal(job.vectors()[0], np.array(good[0].vector, dtype=np.float32))


@pytest.mark.parametrize("asked", [{"position": 5}, {"position": 2**62}, {"id": "d"}, {"id": "\0"}, {"id": "x" * 600}])
def test_an_item_that_is_not_there_is_not_found(job: Job, asked: dict[str, Any]) -> None:
    with pytest.raises(errors.NotFound, match="no such item"):
        job.item(**asked)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"position": 0, "id": "a/1"},
        {"position": -1},
        {"position": 2**62 + 1},
        {"position": "0"},
        {"position": True},
        {"position": 0.0},
        {"id": 7},
        {"id": "\ud800"},
    ],
)
def test_what_names_no_item_is_refused(job: Job, asked: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidOption):
        job.item(**asked)


def test_an_item_of_a_job_at_work_is_pending_and_one_of_a_deleted_job_unknown(client: Client) -> None:
    job = client.submit(TEXTS, **WAITS)
    assert job.item(position=2).status == "pending"
    job.cancel()
    assert job.item(position=2).status == "cancelled"
    with pytest.raises(errors.NotFound):
        job.item(id="a/1")
    job.delete()
    with pytest.raises(errors.UnknownJob):
        job.item(position=2)
