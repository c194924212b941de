"""The routes that the OpenAPI document leaves out, against callers who may not; none is forgotten here either."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from embedmill import Client
from producer.job import Job
from storage.contract.ids import new_id
from tests.service.operations import operations
from tests.service.serving import Served

#: What a person looks at and sends, with a session.
PAGE = {
    "GET /",
    "GET /jobs/{job_id}",
    "GET /workers",
    "GET /tokens",
    "POST /jobs",
    "POST /jobs/{job_id}/cancel",
    "POST /jobs/{job_id}/retry",
    "POST /jobs/{job_id}/delete",
    "POST /signout",
}

#: Second names and methods of what is documented, with a key.
BESIDE = {"HEAD /v1/jobs/{job_id}/results", "POST /embeddings"}

#: What everybody may have: it tells nothing of what anybody has.
OPEN = {
    "GET /signin",
    "POST /signin",
    "GET /static/{name}",
    "GET /docs",
    "GET /docs/docs.css",
    "GET /docs/docs.js",
    "GET /openapi.json",
    "HEAD /openapi.json",
    "GET /ping",
}

#: What the page does to a job.
ACTIONS = ("cancel", "retry", "delete")

SignIn = Callable[..., tuple[httpx.Client, str]]


@pytest.fixture
def sign_in(keyed: Served) -> Iterator[SignIn]:
    """Makes a key with these scopes; returns an HTTP client that has signed in with it, and the id of the key."""
    with ExitStack() as stack:

        def signed_in(*scopes: str) -> tuple[httpx.Client, str]:
            made, key = keyed.service.stores.keys.create("undocumented", scopes)
            http = stack.enter_context(keyed.http())
            assert http.post("/signin", data={"key": key}).status_code == 303
            return http, made.id

        yield signed_in


@pytest.fixture
def waiting_job(data_dir: Path) -> Iterator[Callable[[str], Job]]:
    """Submits a job of a key, which waits: nobody serves its model."""
    records = [("wheat", None, "", None)]
    jobs: list[Job] = []
    with Client(data_dir=data_dir, model="nobody/serves-this") as client:

        def submit(key_id: str) -> Job:
            jobs.append(client.submit_records(records, with_ids=False, key_id=key_id))
            return jobs[-1]

        yield submit
        for job in jobs:
            job.cancel()


def token_of(http: httpx.Client) -> str:
    """Return what the forms of a session carry."""
    found = re.search(r'name="token" value="([0-9a-f]+)"', http.get("/").text)
    assert found
    return found[1]


def test_every_route_is_in_the_document_or_named_here(keyed: Served) -> None:
    with keyed.http() as http:
        documented = {str(one) for one in operations(http.get("/openapi.json").json())}
    # (the document leaves out how a parameter is matched)
    routes = {
        f"{method} {re.sub(r':[a-z]+}', '}', route.path)}"
        for route in iter_route_contexts(keyed.app.routes)
        for method in route.methods or ()
    }
    assert routes - documented == PAGE | BESIDE | OPEN
    assert documented <= routes


def test_without_a_session_or_a_key_nobody_gets_in(keyed: Served) -> None:
    with keyed.http() as http:
        for route in sorted(PAGE | BESIDE | OPEN):
            method, path = route.split(" ")
            sent = {"json": {"input": "rye"}} if route in BESIDE else {"data": {"key": "em_"}}
            asked = path.format(job_id=new_id(), name="page.css")
            answer = http.request(method, asked, **sent) if method == "POST" else http.request(method, asked)
            if route in PAGE:
                assert answer.status_code == 303 and answer.headers["location"].startswith("/signin"), route
            elif route in BESIDE or route == "POST /signin":
                assert answer.status_code == 401, route
            else:
                assert answer.is_success, route


def test_the_page_does_nothing_to_anothers_job_and_tells_nothing_of_it(
    sign_in: SignIn, waiting_job: Callable[[str], Job]
) -> None:
    # Given a job of one key, and the session of another that may do whatever keys usually may
    (_, owner), (other, _) = sign_in("read", "write", "embed"), sign_in("read", "write", "embed")
    job, nobodys, token = waiting_job(owner), new_id(), token_of(other)
    for action in ACTIONS:
        # When it sends the page's own form, then it is answered as for a job that nobody has
        foreign, unknown = (
            other.post(f"/jobs/{job_id}/{action}", data={"token": token}) for job_id in (job.id, nobodys)
        )
        assert foreign.status_code == unknown.status_code == 404, action
        assert foreign.text.replace(job.id, "<id>") == unknown.text.replace(nobodys, "<id>"), action
    # And the job is as it was
    assert job.status().state == "queued"


def test_a_session_that_may_only_read_changes_nothing_of_its_own(
    sign_in: SignIn, waiting_job: Callable[[str], Job]
) -> None:
    # Given a job of a key that may read, no more
    http, owner = sign_in("read")
    job, token = waiting_job(owner), token_of(http)
    assert http.get(f"/jobs/{job.id}").status_code == 200
    # When it sends the forms that the page does not show it, then they are refused
    for action in ACTIONS:
        refused = http.post(f"/jobs/{job.id}/{action}", data={"token": token})
        assert refused.status_code == 403 and "lacks the scope write" in refused.text, action
    assert job.status().state == "queued"


def test_a_session_that_may_not_read_is_shown_nothing(sign_in: SignIn) -> None:
    http, _ = sign_in("write")
    for path in ("/", f"/jobs/{new_id()}", "/workers"):
        assert http.get(path).status_code == 403, path


def test_second_names_ask_for_the_same_key_as_the_first(keyed: Served, waiting_job: Callable[[str], Job]) -> None:
    keys = keyed.service.stores.keys
    made, key = keys.create("owner", ["read"])
    job = waiting_job(made.id)
    with keyed.http(key) as owner, keyed.http(keys.create("other", ["read", "write"])[1]) as other:
        # Given one who may see results, then another is answered as for those that nobody has
        assert owner.head(f"/v1/jobs/{job.id}/results").status_code == 200
        assert other.head(f"/v1/jobs/{job.id}/results").status_code == 404
        assert other.head(f"/v1/jobs/{new_id()}/results").status_code == 404
        # And who may not embed may not under the other name
        assert other.post("/embeddings", json={"input": "rye"}).status_code == 403
