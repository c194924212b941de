"""The client does the same over storage and over HTTP; every test here runs on both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from embedmill import Client, Job
from producer.client import Client as StorageClient
from producer.remote.client import HttpClient
from storage.contract import errors
from storage.contract.ids import new_id
from storage.contract.models import DEFAULT_MODEL
from storage.jobfilter import JobFilter
from storage.outcomes import ItemError

TEXTS = ["The mill stands by the river.", "Rye is ground on Tuesdays.", "今天的面包已经卖完了。"]

#: Of the default model, a revision that nobody serves: a job for it waits until it is cancelled.
WAITS = {"revision": "feedbeef"}

LONG = "grain " * 40


@pytest.fixture
def waiting(client: Client) -> Iterator[Job]:
    """A job that waits for a worker that never comes."""
    job = client.submit(TEXTS, **WAITS)
    yield job
    if not job.status().is_final:
        job.cancel()


@pytest.fixture(scope="module")
def half_failed(clients: dict[str, Client]) -> str:
    """Id of a completed job, the second of whose three items is too long."""
    job = clients["storage"].submit(["short", LONG, "also short"], ids=["a", "b", "c"], on_long="error", max_length=16)
    job.wait(60)
    return job.id


def test_what_is_made_is_what_was_asked_for(clients: dict[str, Client]) -> None:
    assert isinstance(clients["storage"], StorageClient)
    assert isinstance(clients["http"], HttpClient)
    assert all(isinstance(client, Client) for client in clients.values())


def test_vectors_come_back_in_order_the_same_by_every_way(client: Client, clients: dict[str, Client]) -> None:
    # Given texts out of a generator, when they are submitted and the job has ended
    job = client.submit(text for text in TEXTS)
    seen: list[str] = []
    status = job.wait(60, lambda status: seen.append(status.state))
    # Then its status says so
    assert (status.state, status.total, status.succeeded, status.pending) == ("completed", 3, 3, 0)
    assert status == job.status() and status.id == job.id
    assert seen[-1] == "completed"
    # And the vectors are those of the items, whoever asks
    vectors = job.vectors()
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    outcomes = list(job.results())
    assert [(outcome.position, outcome.status, outcome.id) for outcome in outcomes] == [
        (0, "succeeded", None),
        (1, "succeeded", None),
        (2, "succeeded", None),
    ]
    assert all(outcome.tokens > 3 and not outcome.truncated and outcome.error is None for outcome in outcomes)
    assert np.array_equal(vectors, np.stack([outcome.vector for outcome in outcomes if outcome.vector is not None]))
    for other in clients.values():
        assert np.array_equal(other.job(job.id).vectors(), vectors)


def test_results_are_read_to_the_end_without_waiting_first(client: Client) -> None:
    outcomes = client.submit(TEXTS * 5, priority="urgent").results()
    assert [(outcome.position, outcome.status) for outcome in outcomes] == [(i, "succeeded") for i in range(15)]


def test_ids_come_back_with_their_items(client: Client) -> None:
    ids = ["one", "zwei/2", "三"]
    job = client.submit(TEXTS, ids=iter(ids))
    assert [outcome.id for outcome in job.results()] == ids


def test_jobs_are_found_again_by_what_they_were_called(client: Client, clients: dict[str, Client]) -> None:
    # Given two jobs of one run, one of which is cancelled, and times before and between them
    run = {"run": new_id(), "team": "Müller & Co"}
    begun = datetime.now(UTC) - timedelta(days=1)
    first = client.submit(TEXTS, name="harvest", labels=run, **WAITS)
    second = client.submit(TEXTS, name="harvest, again", labels=run | {"try": "2"}, **WAITS)
    second.cancel()
    # When they are asked for by either client
    for asking in clients.values():

        def found(asking: Client = asking, **wanted: Any) -> list[str]:
            return [status.id for status in asking.jobs(**({"labels": run} | wanted))]

        # Then each filter lets those pass that it names
        assert found() == [second.id, first.id]
        assert found(limit=1) == [second.id] and found(before=second.id) == [first.id]
        assert found(name="harvest") == [first.id]
        assert found(labels=run | {"try": "2"}) == found(states=["cancelled", "failed"]) == [second.id]
        assert found(since=begun) == [second.id, first.id]
        assert found(until=begun) == found(since=begun + timedelta(days=2)) == found(model="nobody/knows") == []
        assert found(model=DEFAULT_MODEL) == [second.id, first.id]
        # And each is told with its name and its labels
        (told,) = asking.jobs(labels=run, states=["queued"])
        assert (told.name, told.labels) == ("harvest", run)
        assert told == asking.job(first.id).status()
        # And what can be nobody's is refused
        for bad in ({"states": ["done"]}, {"states": []}, {"since": datetime(2026, 1, 1)}, {"name": "a\0"}):
            with pytest.raises(errors.InvalidOption):
                asking.jobs(**bad)
    first.cancel()


@pytest.mark.parametrize(
    "bad",
    [{"labels": {"a": 1}}, {"labels": {"a": "\ud800"}}, {"labels": ["a"]}, {"name": ""}, {"name": "n" * 201}],
)
def test_what_no_job_can_be_called_is_refused_before_anything_is_kept(client: Client, bad: dict[str, Any]) -> None:
    before = client.jobs(1)
    with pytest.raises(errors.InvalidOption, match=r"label|name"):
        client.submit(TEXTS, **bad)
    assert client.jobs(1) == before


def test_all_that_a_job_may_be_called_is_found_by_either_client(client: Client, clients: dict[str, Client]) -> None:
    labels = {f"{number:x}" * 64: new_id() + 'é"' * 200 for number in range(16)}
    job = client.submit(TEXTS, name="n" * 200, labels=labels, **WAITS)
    job.cancel()
    amsterdam = timezone(timedelta(minutes=19, seconds=32))
    for asking in clients.values():
        asked = {"labels": labels, "name": "n" * 200, "since": datetime(1900, 1, 1, tzinfo=amsterdam)}
        assert [one.id for one in asking.jobs(**asked)] == [job.id]
        for edge in (datetime.min, datetime.max):
            for zone in (timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))):
                since = asking.jobs(labels=labels, since=edge.replace(tzinfo=zone))
                assert [one.id for one in since] == ([job.id] if edge == datetime.min else [])
        for page in ({"limit": -1}, {"before": ""}):
            with pytest.raises(errors.CallerError):
                asking.jobs(**page)


def test_a_service_that_does_not_narrow_a_list_is_found_out(
    clients: dict[str, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given jobs, and a service that leaves out what it does not know, as the first ones did
    run = {"run": new_id()}
    for name in ("harvest", "sowing"):
        clients["http"].submit(TEXTS, name=name, labels=run, **WAITS).cancel()
    monkeypatch.setattr("producer.api.listing.JobsInQuery.filter", lambda asked, named: JobFilter())
    # When some are asked for, then nobody is told of others
    for asked in ({"name": "harvest"}, {"labels": run}, {"until": datetime(2000, 1, 1, tzinfo=UTC)}):
        with pytest.raises(errors.ServerError, match="older than this client"):
            clients["http"].jobs(50, **asked)
    assert {job.name for job in clients["http"].jobs(2)} == {"harvest", "sowing"}


def test_options_reach_the_encoder(client: Client) -> None:
    job = client.submit([LONG], dimensions=8, normalize=False, max_length=12, store_dtype="float16", prompt="query: ")
    (outcome,) = job.results()
    assert outcome.truncated and outcome.tokens == 12
    assert job.vectors().shape == (1, 8) and job.vectors().dtype == np.float32


def test_a_deterministic_job_has_the_same_bits_each_time(client: Client, clients: dict[str, Client]) -> None:
    texts = [f"{text} {number}" for number, text in enumerate(TEXTS * 5)]
    jobs = [client.submit(texts, deterministic=True) for _ in range(3)]
    company = client.submit(texts[::2])
    first, *others = [job.wait(60) and job.vectors() for job in jobs]
    assert all(np.array_equal(vectors, first) for vectors in others)
    # And that is what was kept for workers to go by, whichever way it was asked for
    kept = [clients["storage"].job(job.id).record().options.get("deterministic") for job in (*jobs, company)]
    assert kept == [True, True, True, None]


def test_every_invalid_item_is_reported_and_nothing_kept(client: Client) -> None:
    # Given good items, bad ones of every kind, and an id that comes twice
    before = client.jobs(1)
    texts: list[Any] = ["good", "", "  ", None, 7, "a \ud800 surrogate", "good", "x" * 1_000_001, "good"]
    ids: list[Any] = ["a", "b", "c", "d", "e", "f", "g", "h", "a"]
    # When they are submitted
    with pytest.raises(errors.InvalidItems) as raised:
        client.submit(texts, ids=ids)
    # Then each is named, in order, with the reason
    found = {problem.position: problem.reason for problem in raised.value.problems}
    assert found[1] == "the text is empty" and found[2] == "the text is blank"
    assert found[3] == "the text is missing, not a string" and found[4] == "the text is a number, not a string"
    assert found[5] == "the text has a lone surrogate at character 2"
    assert raised.value.count == len(found) and {1, 2, 3, 4, 5} <= set(found)
    assert raised.value.problems[0].where == "item 1"
    assert client.jobs(1) == before


@pytest.mark.parametrize(
    ("texts", "ids", "reason"),
    [
        (["a", "b", "c"], ["x", "y", "x"], "the id has come before"),
        (["a", "b", "c"], ["x", "y"], "there are fewer ids than texts"),
        (["a", "b"], ["x", "y", "z"], "there are more ids than texts"),
    ],
)
def test_what_only_the_other_side_can_tell_is_reported_too(
    client: Client, texts: list[str], ids: list[str], reason: str
) -> None:
    with pytest.raises(errors.InvalidItems) as raised:
        client.submit(texts, ids=ids)
    assert [(p.position, p.where, p.reason) for p in raised.value.problems] == [(2, "item 2", reason)]


def test_invalid_items_are_kept_as_errors_where_that_is_wished(client: Client) -> None:
    texts: list[Any] = ["good", "", None, "good"]
    job = client.submit(texts, on_invalid="keep")
    status = job.wait(60)
    assert (status.succeeded, status.failed) == (2, 2)
    assert [(e.position, e.error.code if e.error else None) for e in job.errors()] == [
        (1, "invalid_item"),
        (2, "invalid_item"),
    ]
    assert np.isnan(job.vectors()).all(axis=1).tolist() == [False, True, True, False]


def test_the_same_key_and_payload_give_the_same_job(client: Client) -> None:
    key = f"night run {new_id()}"
    first = client.submit(TEXTS, idempotency_key=key)
    assert client.submit(iter(TEXTS), idempotency_key=key).id == first.id
    with pytest.raises(errors.IdempotencyConflict):
        client.submit(TEXTS[:2], idempotency_key=key)


def test_a_waiting_job_says_so_and_is_cancelled_once(client: Client, waiting: Job) -> None:
    assert waiting.notice is not None and "waits for a worker" in waiting.notice
    assert waiting.status().state == "queued" and waiting.status().waiting_for is not None
    assert waiting.cancel() is True
    assert waiting.cancel() is False
    assert waiting.wait(60).state == "cancelled"
    assert [outcome.status for outcome in waiting.results()] == ["cancelled"] * 3
    assert waiting.errors() == []
    assert np.isnan(waiting.vectors()).all()


def test_what_a_waiting_job_cannot_do_is_refused(waiting: Job) -> None:
    for act in (waiting.vectors, waiting.retry_failed, waiting.delete):
        with pytest.raises(errors.WrongState):
            act()


@pytest.mark.parametrize("timeout", [0, 0.3, 2.5])
def test_a_wait_ends_when_its_time_is_over(waiting: Job, timeout: float) -> None:
    seen: list[str] = []
    with pytest.raises(errors.WaitTimeout, match="3 of 3 items pending"):
        waiting.wait(timeout, lambda status: seen.append(status.state))
    assert set(seen) == {"queued"}


def test_a_wait_for_no_number_of_seconds_is_refused(waiting: Job) -> None:
    with pytest.raises(errors.InvalidOption):
        waiting.wait(float("nan"))


def test_failed_items_are_told_and_tried_again(client: Client, half_failed: str) -> None:
    job = client.job(half_failed)
    error = ItemError("too_long", job.errors()[0].error.message if job.errors()[0].error else "")
    assert [(o.position, o.id, o.status, o.error) for o in job.errors()] == [(1, "b", "failed", error)]
    assert job.retry_failed() == 1
    assert job.wait(60).failed == 1


def test_a_deleted_job_is_unknown_from_then_on(client: Client) -> None:
    job = client.submit(TEXTS[:1])
    job.wait(60)
    job.delete()
    acts: list[Callable[[], object]] = [job.status, job.delete, job.cancel, job.retry_failed, job.vectors, job.errors]
    acts += [lambda: client.job(job.id), lambda: list(job.results()), lambda: job.wait(60)]
    for act in acts:
        with pytest.raises(errors.UnknownJob):
            act()


@pytest.mark.parametrize("job_id", ["018f4e7a-0000-7000-8000-000000000000", "nonsense", "", "../keys"])
def test_an_unknown_id_is_refused(client: Client, job_id: str) -> None:
    with pytest.raises(errors.UnknownJob):
        client.job(job_id)


def test_a_completed_job_cannot_be_cancelled(client: Client, half_failed: str) -> None:
    with pytest.raises(errors.WrongState):
        client.job(half_failed).cancel()


def test_jobs_are_listed_newest_first(client: Client) -> None:
    ids = [client.submit(TEXTS[:1], priority="urgent").id for _ in range(3)]
    listed = client.jobs(3)
    assert [status.id for status in listed] == ids[::-1]
    assert [status.id for status in client.jobs(1, before=ids[1])] == ids[:1]
    assert client.jobs(0) == []
    with pytest.raises(errors.UnknownJob):
        client.jobs(1, before="nonsense")


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"colour": "red"}, errors.InvalidOption),
        ({"pooling": "median"}, errors.InvalidOption),
        ({"dimensions": 10_000}, errors.InvalidOption),
        ({"layer": 99}, errors.InvalidOption),
        ({"prompt": "a", "prompt_name": "b"}, errors.InvalidOption),
        ({"on_invalid": "ignore"}, errors.InvalidOption),
        ({"priority": "soon"}, errors.InvalidOption),
        ({"expires_in": 0}, errors.InvalidOption),
        ({"expires_in": -1.0}, errors.InvalidOption),
        ({"idempotency_key": ""}, errors.InvalidOption),
        ({"idempotency_key": "k" * 256}, errors.InvalidOption),
        ({"model": "nobody/has-ever-served-this"}, errors.UnknownModel),
        ({"model": DEFAULT_MODEL, "revision": "\x00"}, errors.InvalidOption),
    ],
)
def test_what_cannot_be_done_is_refused_by_the_same_class(
    client: Client, given: dict[str, Any], kind: type[errors.EmbedmillError]
) -> None:
    with pytest.raises(kind):
        client.submit(TEXTS, **given)


@pytest.mark.parametrize("texts", ["a single text", b"bytes", [], iter(())])
def test_no_texts_are_refused(client: Client, texts: Any) -> None:
    with pytest.raises(errors.InvalidOption):
        client.submit(texts)
