"""What is no value of its kind is refused in the same words over storage and over HTTP, however much is submitted."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from embedmill import Client
from producer.remote import upload
from storage.contract import errors
from tests.service.serving import Served
from tests.service.submitted import WAITS

TEXTS = ["The mill stands by the river.", "Rye is ground on Tuesdays."]


@pytest.fixture(params=["at once", "in parts"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether a submission over HTTP is one request or several."""
    if request.param == "in parts":
        monkeypatch.setattr(upload, "AT_ONCE", 10)
        monkeypatch.setattr(upload, "PART", 40)
    return str(request.param)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("bad", ["5", math.inf, math.nan, True, Decimal(5), [5], 10**400, -1])
@pytest.mark.parametrize("name", ["expires_in", "keep_days", "keep_texts_days"])
def test_what_is_no_length_of_time_is_refused(client: Client, name: str, bad: Any) -> None:
    before = client.jobs(1)
    with pytest.raises(errors.InvalidOption, match=name):
        client.submit(TEXTS, **{name: bad})
    assert client.jobs(1) == before


@pytest.mark.usefixtures("size")
def test_a_number_of_numpys_is_one(client: Client) -> None:
    given: dict[str, Any] = {"keep_days": np.float32(3), "keep_texts_days": np.int64(2), "expires_in": np.float64(600)}
    job = client.submit(TEXTS, **given, **WAITS)
    status = job.status()
    job.cancel()
    assert (status.keep_days, status.keep_texts_days) == (3, 2)


@pytest.mark.parametrize("bad", ["5", math.nan, True, [5]])
def test_what_is_no_time_to_wait_is_refused(client: Client, bad: Any) -> None:
    job = client.submit(TEXTS, **WAITS)
    with pytest.raises(errors.InvalidOption, match="timeout must be a number of seconds"):
        job.wait(bad)
    job.cancel()


@pytest.mark.parametrize("bad", ["soon", 5, None, ["urgent"]])
def test_what_is_no_priority_is_refused(client: Client, bad: Any) -> None:
    with pytest.raises(errors.InvalidOption, match="priority must be bulk or urgent"):
        client.submit(TEXTS, priority=bad)


def test_a_uuid_is_a_jobs_id(client: Client) -> None:
    older, newer = (client.submit(TEXTS, **WAITS) for _ in range(2))
    assert client.job(UUID(newer.id)).id == newer.id
    assert [status.id for status in client.jobs(1, before=UUID(newer.id))] == [older.id]
    for job in (older, newer):
        job.cancel()


@pytest.mark.parametrize("bad", [5, None, b"0198c0de", ["a"], UUID(int=5)])
def test_what_is_no_id_is_an_unknown_job(client: Client, bad: Any) -> None:
    with pytest.raises(errors.UnknownJob):
        client.job(bad)


@pytest.mark.parametrize("bad", ["5", 2.0, None, True, -1])
def test_what_is_no_number_of_jobs_is_refused(client: Client, bad: Any) -> None:
    with pytest.raises(errors.InvalidOption, match="limit must be a whole number"):
        client.jobs(bad)


@pytest.mark.parametrize(
    ("texts", "ids", "said"),
    [
        (None, None, "texts is of type NoneType"),
        (5, None, "texts is of type int"),
        ({"a": "hello"}, None, r"texts.values\(\)"),
        ("hello", None, "texts is a single text"),
        (["hello", "there", "mill"], "xyz", "ids is a single id"),
        (["hello"], b"x", "ids is a single id"),
        (["hello"], {"a": 1}, "ids is a mapping"),
        (["hello"], 5, "ids is of type int"),
    ],
)
def test_what_is_no_list_is_refused_with_what_to_give(client: Client, texts: Any, ids: Any, said: str) -> None:
    before = client.jobs(1)
    with pytest.raises(errors.InvalidOption, match=said):
        client.submit(texts, ids=ids)
    assert client.jobs(1) == before


def test_the_views_of_a_mapping_are_taken(client: Client) -> None:
    texts = {"a": TEXTS[0], "b": TEXTS[1]}
    assert [outcome.id for outcome in client.submit(texts.values(), ids=texts.keys()).results()] == ["a", "b"]


@pytest.mark.parametrize("bad", ["5", None, math.nan])
def test_what_is_no_time_to_try_again_is_refused(served: Served, bad: Any) -> None:
    with pytest.raises(errors.InvalidOption, match="retry_for must be a number of seconds"):
        Client(served.url, retry_for=bad)
