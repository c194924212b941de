"""Our own routes: submit, list, status, cancel, retry, delete."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import fields
from urllib.parse import quote

import httpx
import pytest

from embedmill import Client
from producer.api.settings import ApiSettings
from producer.api.told import StatusView
from storage.jobstatus import JobStatus
from tests.service.badjobs import BAD
from tests.service.serving import Served, serving
from tests.storage.builders import CARD, finish, serve, submit

TEXTS = ["The mill grinds at night.", "Rye and wheat.", "The miller's daughter counts the sacks."]


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service over an empty database of its own, which no worker looks at."""
    folder = tmp_path_factory.mktemp("alone")
    with serving(ApiSettings.load(data_dir=folder, model=CARD.name)) as served:
        yield served


def test_texts_are_submitted_and_their_vectors_are_read(http: httpx.Client, served: Served) -> None:
    # When texts are submitted
    answer = http.post("/v1/jobs", json={"texts": TEXTS, "name": "night shift", "labels": {"team": "mill"}})
    # Then the job is there, under the place that the answer names
    assert answer.status_code == 202
    status = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{status['id']}" == status["links"]["self"]
    assert (status["total"], status["name"], status["labels"]) == (3, "night shift", {"team": "mill"})
    # And in the end every item has the vector that the client reads too
    assert served.service.client.job(status["id"]).wait(60).succeeded == 3
    page = http.get(status["links"]["results"]).json()
    assert [item["position"] for item in page["data"]] == [0, 1, 2]
    assert page["next"] is None and page["state"] == "completed" and page["generation"] == 0
    expected = served.service.client.job(status["id"]).vectors()
    assert [item["vector"] for item in page["data"]] == [[float(str(x)) for x in row] for row in expected]


@pytest.mark.parametrize("id", ["a\nb", "line\n", "/a//b/", "..", "a?b#c", "ü\u2028", " x "])
def test_an_item_is_found_whatever_its_id_holds(http: httpx.Client, served: Served, id: str) -> None:
    # Given an item of a strange id
    status = http.post("/v1/jobs", json={"items": [{"id": "wheat", "text": "wheat"}, {"id": id, "text": "rye"}]}).json()
    served.service.client.job(status["id"]).wait(60)
    items = f"/v1/jobs/{status['id']}/items"
    # Then it is found by a query, and by a path where that is not taken for a way up
    found = http.get(items, params={"custom_id": id})
    assert (found.status_code, found.json()["id"], found.json()["position"]) == (200, id, 1)
    if id != "..":
        assert http.get(f"{items}/{quote(id, safe='')}").json() == found.json()


@pytest.mark.parametrize("query", ["", "?position=0&custom_id=wheat"])
def test_an_item_is_named_in_one_way(http: httpx.Client, served: Served, query: str) -> None:
    job = served.service.client.submit(["wheat"], ids=["wheat"]).id
    answer = http.get(f"/v1/jobs/{job}/items{query}")
    assert answer.status_code == 400 and "Give one of them" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("query", "param", "told"),
    [
        ("?state=sleeping", "state", "state must be some of accepting, queued, running"),
        ("?state=", "state", "Name several with commas between"),
        ("?state=queued,,running", "state", "state must be some of"),
        ("?before=yesterday", "before", "before is no job's id"),
        ("?before=01234567-89AB-7DEF-8123-456789ABCDEF", "before", "before is no job's id"),
    ],
)
def test_what_narrows_a_list_in_no_way_is_told_in_words(http: httpx.Client, query: str, param: str, told: str) -> None:
    answer = http.get(f"/v1/jobs{query}")
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert told in error["message"] and "[" not in error["message"]


def test_items_have_ids_by_which_they_are_found(http: httpx.Client, served: Served) -> None:
    ids = ["a/b", "ü %2F", "42"]
    items = [{"id": id, "text": text} for id, text in zip(["a/b", "ü %2F", 42], TEXTS, strict=True)]
    status = http.post("/v1/jobs", json={"items": items}).json()
    served.service.client.job(status["id"]).wait(60)
    page = http.get(f"/v1/jobs/{status['id']}/results").json()
    assert [item["id"] for item in page["data"]] == ids
    for position, path in enumerate(["a%2Fb", "%C3%BC%20%252F", "42"]):
        found = http.get(f"/v1/jobs/{status['id']}/items/{path}")
        assert found.json() == page["data"][position] | {"store_dtype": "float32"}
        assert http.get(f"/v1/jobs/{status['id']}/items", params={"position": position}).json() == found.json()
    for missing in ("items/nobody", "items/a%00b", "items?position=3", "items/%FF"):
        answer = http.get(f"/v1/jobs/{status['id']}/{missing}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_pages_follow_each_other_and_stop_before_what_is_pending(alone: Served) -> None:
    # Given a job of three chunks, two of which are done, one of those with a failed item
    stores = alone.service.stores
    worker = serve(stores)
    job_id = submit(stores, 3)
    finish(stores, job_id, 1, worker)
    with alone.http() as http:
        seen, after = [], 0
        for _ in range(3):
            page = http.get(f"/v1/jobs/{job_id}/results", params={"after": after, "limit": 1}).json()
            seen += [item["position"] for item in page["data"]]
            after = page["next"]
        # Then the pages hold the two items that are done, and lead to the third for ever
        assert (seen, after, page["state"]) == ([0, 1], 2, "running")
        assert http.get(f"/v1/jobs/{job_id}/items?position=2").json()["status"] == "pending"
        # When the job is cancelled, they lead to the end
        assert http.post(f"/v1/jobs/{job_id}/cancel").json()["cancelled"] == 4
        page = http.get(f"/v1/jobs/{job_id}/results", params={"after": 2, "limit": 4}).json()
        assert ([item["status"] for item in page["data"]], page["next"]) == (["cancelled"] * 4, None)
        page = http.get(f"/v1/jobs/{job_id}/results", params={"status": "cancelled", "limit": 2}).json()
        assert ([item["position"] for item in page["data"]], page["next"]) == ([2, 3], 4)
        assert http.get(f"/v1/jobs/{job_id}/results", params={"status": "failed"}).json()["data"] == []
        # And a page behind the end is empty
        assert http.get(f"/v1/jobs/{job_id}/results", params={"after": 2**62}).json()["next"] is None


def test_jobs_are_listed_newest_first_page_by_page(alone: Served) -> None:
    stores = alone.service.stores
    worker = serve(stores)
    ids = [submit(stores) for _ in range(3)]
    finish(stores, ids[0], 1, worker)
    with alone.http() as http:
        first = http.get("/v1/jobs", params={"limit": 2}).json()
        assert [job["id"] for job in first["data"]] == [ids[2], ids[1]]
        assert first["has_more"] and first["next"] == ids[1]
        rest = http.get("/v1/jobs", params={"limit": 2, "before": first["next"]}).json()
        assert ([job["id"] for job in rest["data"]], rest["has_more"], rest["next"]) == ([ids[0]], False, None)
        # Two are queued, one after the other
        queued = http.get("/v1/jobs", params={"state": "running,queued"}).json()["data"]
        assert [(job["id"], job["queue_position"]) for job in queued] == [(ids[2], 1), (ids[1], 0)]
        assert http.get("/v1/jobs", params={"model": CARD.name, "state": "completed"}).json()["data"][0]["id"] == ids[0]
        assert http.get("/v1/jobs", params={"model": "nobody/knows"}).json()["data"] == []


def test_a_job_is_cancelled_once_and_deleted_once(alone: Served) -> None:
    serve(alone.service.stores)
    with alone.http() as http:
        job = http.post("/v1/jobs", json={"texts": TEXTS}).json()["links"]["self"]
        # One at work is not deleted
        assert http.delete(job).status_code == 409
        assert [http.post(f"{job}/cancel").json()["state"] for _ in range(2)] == ["cancelled"] * 2
        assert http.post(f"{job}/retry").json()["error"]["code"] == "wrong_state"
        assert http.delete(job).status_code == 204
        unknown = [http.delete(job), http.get(job), http.post(f"{job}/cancel"), http.get(f"{job}/results")]
        assert [answer.status_code for answer in unknown] == [404] * 4


def test_failed_items_are_tried_again(alone: Served) -> None:
    stores = alone.service.stores
    worker = serve(stores)
    job_id = submit(stores, 2)
    finish(stores, job_id, 2, worker, failed=[1])
    with alone.http() as http:
        page = http.get(f"/v1/jobs/{job_id}/results", params={"status": "failed"}).json()
        assert [item["error"]["code"] for item in page["data"]] == ["encoder_failed"] * 2
        answer = http.post(f"/v1/jobs/{job_id}/retry")
        assert answer.status_code == 202
        assert (answer.json()["retried"], answer.json()["generation"], answer.json()["state"]) == (2, 1, "queued")
        assert http.post(f"/v1/jobs/{job_id}/cancel").status_code == 200


def test_who_has_items_tried_again_hears_that_they_wait(alone: Served) -> None:
    # Given two jobs with failed items, and no worker any more
    stores = alone.service.stores
    worker = serve(stores)
    job_ids = [submit(stores, 1) for _ in range(2)]
    for job_id in job_ids:
        finish(stores, job_id, 1, worker, failed=[1])
    stores.workers.leave(worker)
    with Client(alone.url) as far, Client(data_dir=alone.service.settings.data_dir) as near:
        for client, job_id in zip((far, near), job_ids, strict=True):
            # When they are to be tried again, over HTTP or not, then it is said that they wait for one
            job = client.job(job_id)
            assert job.retry_failed() == 1
            assert job.notice is not None and "waits for a worker" in job.notice


def test_a_status_is_told_with_all_that_is_known_of_it() -> None:
    assert {field.name for field in fields(JobStatus)} < set(StatusView.model_fields)


def test_the_same_key_and_payload_are_the_same_job(alone: Served) -> None:
    serve(alone.service.stores)
    with alone.http() as http:
        send = {"json": {"texts": TEXTS}, "headers": {"Idempotency-Key": '"night \\"1\\""'}}
        first, again = http.post("/v1/jobs", **send), http.post("/v1/jobs", **send)
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json() == again.json()
        other = http.post("/v1/jobs", json={"texts": TEXTS[:1]}, headers=send["headers"])
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_conflict")
        named = http.post("/v1/jobs", json={"texts": TEXTS, "name": "x"}, headers=send["headers"])
        assert named.status_code == 422
        for bad in ('""', '"open', "a,b", "a b", "x" * 256, '"ä"'.encode()):
            assert http.post("/v1/jobs", json={"texts": TEXTS}, headers={"Idempotency-Key": bad}).status_code == 400
        assert len(http.get("/v1/jobs").json()["data"]) == 1


def test_a_list_of_jobs_is_narrowed_by_name_labels_and_time(alone: Served) -> None:
    serve(alone.service.stores)
    with alone.http() as http:
        # Given jobs with names and labels, made one after another
        ids = []
        for name, labels in (("day", {"run": "1"}), ("night", {"run": "1", "team": "search"}), ("night", None)):
            ids.append(http.post("/v1/jobs", json={"texts": TEXTS, "name": name, "labels": labels}).json()["id"])

        def found(**asked: str) -> list[str]:
            answer = http.get("/v1/jobs", params=asked)
            assert answer.status_code == 200, answer.text
            return [job["id"] for job in answer.json()["data"]]

        made = http.get(f"/v1/jobs/{ids[1]}").json()["created_at"]
        # When some are asked for, then those are told, newest first
        assert found(name="night") == [ids[2], ids[1]]
        assert found(labels='{"run": "1"}') == [ids[1], ids[0]]
        assert found(name="night", labels='{"run": "1"}', state="queued,completed") == [ids[1]]
        for every in ({"labels": "{}"}, {"since": "2020-01-01"}, {"since": "2h"}, {"until": "9999-12-31T23:59:59Z"}):
            assert found(**every) == ids[::-1]
        assert found(since=made)[-1] == ids[1] == found(since=made.removesuffix("Z"))[-1]
        assert found(until=made) == [ids[0]]
        assert found(since="2100-01-01T00:00:00-07:00") == found(until="1h") == found(name="noon") == []
        # And a page says where the next one begins
        page = http.get("/v1/jobs", params={"labels": '{"run": "1"}', "limit": 1}).json()
        assert (page["has_more"], page["next"]) == (True, ids[1])
        assert found(labels='{"run": "1"}', before=page["next"]) == [ids[0]]


def test_bad_input_of_each_field_is_a_400_and_leaves_nothing(alone: Served) -> None:
    serve(alone.service.stores)
    with alone.http() as http:
        for name, body in BAD.items():
            answer = http.post("/v1/jobs", content=json.dumps(body), headers={"Content-Type": "application/json"})
            assert answer.status_code == 400, (name, answer.text)
            assert answer.json()["error"]["message"], name
        for raw in (
            b"",
            b"{",
            b"[1]",
            b'"x"',
            b"\xff",
            b"[" * 100_000,
            b'{"texts":["a"],"expires_in":NaN}',
            b"9" * 5000,
        ):
            answer = http.post("/v1/jobs", content=raw, headers={"Content-Type": "application/json"})
            assert answer.status_code == 400, raw[:40]
            assert answer.json()["error"]["code"] in ("invalid_request", "unreadable"), raw[:40]
        for path in (
            "?limit=0",
            "?limit=101",
            "?limit=x",
            "?before=nobody",
            "?state=sleeping",
            "?state=",
            "?model=%00",
            "?model=",
            "?name=%00",
            "?name=",
            "?labels=team",
            "?labels=[]",
            "?labels={}x",
            '?labels={"a":1}',
            '?labels={"":"b"}',
            '?labels={"a":"\\u0000"}',
            f"?labels={'[' * 4_000}",
            "?since=yesterday",
            "?until=2026-13-01",
            "?since=1e400",
            "?since=2026",
            "?since=1764417600",
            "?label=team=search",
            '?labels={"a":"1"}&labels={"b":"2"}',
            "?state=queued&limit=1&state=failed",
            "?until=999999w",
        ):
            assert http.get(f"/v1/jobs{path}").status_code == 400, path
        # Nothing of all that is left
        assert http.get("/v1/jobs").json()["data"] == []
        assert http.get("/v1/jobs?state=accepting").json()["data"] == []


def test_other_refusals_have_statuses_of_their_own(alone: Served) -> None:
    serve(alone.service.stores)
    with alone.http() as http:
        assert http.post("/v1/jobs", json={"texts": ["a"], "model": "nobody/knows"}).status_code == 404
        # A folder of the service's machine is not told to be one
        dot = http.post("/v1/jobs", json={"texts": ["a"], "model": "."}).json()["error"]
        assert (dot["code"], os.getcwd() in dot["message"]) == ("unknown_model", False)
        assert http.post("/v1/jobs", data={"texts": "a"}).status_code == 415
        assert http.post("/v1/jobs", content=b"{}").status_code == 415
        packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        assert http.post("/v1/jobs", content=b"{}", headers=packed).status_code == 415
        assert http.put("/v1/jobs", json={}).status_code == 405
        large = {"texts": ["a" * 1000] * 40_000}
        assert http.post("/v1/jobs", json=large).json()["error"]["code"] == "too_large"
        many = http.post("/v1/jobs", json={"texts": ["a"] * 100_001})
        assert (many.status_code, "x-ndjson" in many.json()["error"]["remedy"]) == (413, True)
        for unknown in ("nobody", "018f0000-0000-7000-8000-000000000000", "%00", "x" * 100):
            assert http.get(f"/v1/jobs/{unknown}").status_code == 404


def test_invalid_items_are_named_or_kept(alone: Served) -> None:
    serve(alone.service.stores)
    with alone.http() as http:
        texts = ["wheat", "", None, 7, "\ud800", "x" * 1_000_001]
        body = json.dumps({"texts": texts})
        as_json = {"Content-Type": "application/json"}
        error = http.post("/v1/jobs", content=body, headers=as_json).json()["error"]
        assert (error["code"], error["problem_count"]) == ("invalid_items", 5)
        assert [problem["position"] for problem in error["problems"]] == [1, 2, 3, 4, 5]
        # In the query, what the body does not say
        status = http.post("/v1/jobs?on_invalid=keep&name=kept", content=body, headers=as_json).json()
        assert (status["failed"], status["pending"], status["name"]) == (5, 1, "kept")


def test_the_document_says_what_our_routes_answer(alone: Served) -> None:
    document = alone.app.openapi()
    submit = document["paths"]["/v1/jobs"]["post"]
    assert set(submit["requestBody"]["content"]) == {"application/json", "application/x-ndjson"}
    assert submit["responses"]["202"]["links"]["get_job"]["parameters"] == {"job_id": "$response.body#/id"}
    assert "idempotency" in submit["responses"]["422"]["description"]
    # Bad input is a 400 everywhere, never the framework's own 422
    assert "HTTPValidationError" not in json.dumps(document)
    operations = {operation["operationId"] for path in document["paths"].values() for operation in path.values()}
    assert set(submit["responses"]["201"]["links"]) < operations
