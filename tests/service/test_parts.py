"""Jobs that are submitted in parts, over HTTP."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

from producer.api import uploading
from producer.api.settings import ApiSettings
from producer.remote.client import HttpClient
from storage.contract.errors import IdempotencyConflict
from tests.acceptance.shell import until
from tests.service.serving import Served, serving
from tests.storage.builders import CARD, serve

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service over a database of its own, which takes parts of at most 2,000 bytes."""
    folder = tmp_path_factory.mktemp("alone")
    with serving(ApiSettings.load(data_dir=folder, model=CARD.name, max_part_bytes=2_000)) as served:
        serve(served.service.stores)
        yield served


@pytest.fixture
def http(alone: Served) -> Iterator[httpx.Client]:
    """An HTTP client of it."""
    with alone.http() as client:
        yield client


def opened(http: httpx.Client, **asked: object) -> str:
    """Open a job; return its path."""
    answer = http.post("/v1/jobs", json={"parts": True, **asked})
    assert (answer.status_code, answer.json()["state"]) == (201, "accepting"), answer.text
    return answer.headers["location"]


def put(http: httpx.Client, job: str, number: int | str, body: bytes, **more: object) -> httpx.Response:
    """Send a part."""
    return http.put(f"{job}/parts/{number}", content=body, headers=NDJSON, **more)


def test_a_job_comes_in_parts_and_is_sealed(http: httpx.Client) -> None:
    job = opened(http, name="harvest", dimensions=2, labels={"a": "b"})
    assert put(http, job, 0, b'{"id": "a", "text": "wheat"}').json() == {"part": 0, "items": 1, "first": 0, "next": 1}
    again = put(http, job, 0, b'{"id": "a", "text": "wheat"}')
    assert (again.status_code, again.json()["next"]) == (200, 1)
    second = put(http, job, 1, b'{"key": "b", "body": "rye"}\n' * 1, params={"text_field": "body", "id_field": "key"})
    assert second.json() == {"part": 1, "items": 1, "first": 1, "next": 2}
    listed = http.get(f"{job}/parts").json()
    assert (listed["next"], listed["items"]) == (2, 2)
    assert [set(part) for part in listed["parts"]] == [{"part", "items", "first", "sha256"}] * 2
    sealed = http.post(f"{job}/seal", json={"parts": 2, "items": 2})
    assert (sealed.status_code, sealed.json()["state"], sealed.json()["name"]) == (202, "queued", "harvest")
    assert http.post(f"{job}/seal").status_code == 202
    assert http.post(f"{job}/seal", json={"items": 3}).json()["error"]["code"] == "conflict"
    assert http.get(f"{job}/items/b").json()["position"] == 1


def test_what_does_not_fit_is_refused_and_changes_nothing(http: httpx.Client) -> None:
    job = opened(http)
    assert http.post(f"{job}/seal").json()["error"]["code"] == "wrong_state"
    put(http, job, 0, b'"wheat"')
    refused = {
        "other bytes": (put(http, job, 0, b'"rye"'), 409),
        "a gap": (put(http, job, 3, b'"rye"'), 409),
        "nothing": (put(http, job, 1, b""), 400),
        "bad items": (put(http, job, 1, b'"rye"\n{"id": 1}'), 400),
        "too long": (put(http, job, 1, b'"rye"\n' * 400), 413),
        "number": (put(http, job, "x", b'"rye"'), 400),
        "below nought": (put(http, job, "-1", b'"rye"'), 400),
        "beyond all": (put(http, job, 10**30, b'"rye"'), 400),
        "query": (put(http, job, 1, b'"rye"', params={"pooling": "mean"}), 400),
        "media type": (http.put(f"{job}/parts/1", json=["rye"]), 415),
        "seal with too many": (http.post(f"{job}/seal", json={"parts": 2}), 409),
        "seal with a word": (http.post(f"{job}/seal", json={"parts": "1"}), 400),
        "seal with more": (http.post(f"{job}/seal", json={"part": 1}), 400),
        "seal with what is no JSON": (http.post(f"{job}/seal", content=b"{"), 415),
        "seal with much": (
            http.post(f"{job}/seal", content=b" " * 20_000, headers={"Content-Type": "application/json"}),
            413,
        ),
        "results": (http.get(f"{job}/results", params={"format": "npy"}), 409),
        "cancel": (http.post(f"{job}/cancel"), 409),
        "texts with parts": (http.post("/v1/jobs", json={"parts": True, "texts": ["a"]}), 400),
        "no parts": (http.post("/v1/jobs", json={"parts": False}), 400),
    }
    assert {name: answer.status_code for name, (answer, _) in refused.items()} == {
        name: status for name, (_, status) in refused.items()
    }
    assert "part 1" in refused["a gap"][0].json()["error"]["remedy"]
    problem = refused["bad items"][0].json()["error"]["problems"][0]
    assert (problem["position"], problem["where"]) == (2, "line 2")
    assert (http.get(f"{job}/parts").json()["next"], http.get(job).json()["total"]) == (1, 1)
    # A job that is not sealed is thrown away by deleting it
    assert http.delete(job).status_code == 204
    assert put(http, job, 1, b'"rye"').json()["error"]["code"] == "job_not_found"
    assert [http.get(f"{job}/parts").status_code, http.post(f"{job}/seal").status_code] == [404, 404]


def test_a_part_whose_connection_is_cut_is_still_due(alone: Served, http: httpx.Client) -> None:
    # Given a part of which some lines have come
    job = opened(http)
    host, port = alone.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"PUT {job}/parts/0 HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/x-ndjson\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + b'"wheat"\n"rye"\n')
        until(lambda: uploading.places.taken == 1, "the part's beginning")
    # When the connection is cut
    until(lambda: uploading.places.taken == 0, "the part's end")
    # Then nothing of it is there, and it may come with other bytes
    assert http.get(f"{job}/parts").json() == {"next": 0, "items": 0, "parts": []}
    assert put(http, job, 0, b'"oats"').json()["items"] == 1
    assert http.post(f"{job}/seal", json={"parts": 1, "items": 1}).status_code == 202


def test_a_job_that_came_in_one_piece_has_no_parts(http: httpx.Client) -> None:
    job = http.post("/v1/jobs", json={"texts": ["wheat"]}).headers["location"]
    answers = [put(http, job, 0, b'"rye"'), http.get(f"{job}/parts"), http.post(f"{job}/seal")]
    assert [answer.status_code for answer in answers] == [409] * 3


def test_the_same_key_opens_the_same_job(http: httpx.Client) -> None:
    key = {"Idempotency-Key": "harvest-1"}
    first = http.post("/v1/jobs", json={"parts": True}, headers=key)
    again = http.post("/v1/jobs", json={"parts": True}, headers=key)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    for other in ({"parts": True, "name": "x"}, {"texts": ["wheat"]}):
        assert http.post("/v1/jobs", json=other, headers=key).status_code == 422
    # And so it does when the job has been sealed
    job = first.headers["location"]
    put(http, job, 0, b'"wheat"')
    http.post(f"{job}/seal")
    assert http.post("/v1/jobs", json={"parts": True}, headers=key).json()["state"] == "queued"
    assert put(http, job, 0, b'"wheat"').status_code == 200
    assert put(http, job, 0, b'"rye"').status_code == 409


def test_a_client_never_deletes_the_job_that_its_key_had_before(alone: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a job under a key that came in parts, and has ended
    monkeypatch.setattr("producer.remote.upload.AT_ONCE", 10)
    stores = alone.service.stores
    with HttpClient(alone.url) as client:
        job = client.submit(["wheat", "rye"], idempotency_key="harvest-2")
        stores.jobs.cancel(job.id)
        # When other texts are submitted under it, then they are refused, and the job is still there
        with pytest.raises(IdempotencyConflict):
            client.submit(["oats", "spelt"], idempotency_key="harvest-2")
        assert stores.jobs.get(job.id).total == 2
        # And the same ones are the same job
        assert client.submit(["wheat", "rye"], idempotency_key="harvest-2").id == job.id
