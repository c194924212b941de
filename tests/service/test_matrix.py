"""Every documented route against every kind of caller who may not; made from the OpenAPI document, so that none is
forgotten. What the document leaves out is in `test_undocumented.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import pytest

from storage.contract.models import DEFAULT_MODEL
from tests.service.operations import Operation, operations
from tests.service.serving import Served

#: Routes that everybody may use: they tell nothing of what anybody has. A new one must be named here.
OPEN = {"/healthz", "/readyz", "/health", "/metrics"}

#: Routes that change nothing although they are asked by POST.
READING = {"/v1/tokens", "/tokenize", "/decode"}

#: Of each parameter of a path, how the owner gets one; None: it names nobody's own thing, and this value is taken.
OWNED: dict[str, Callable[[Owner], str]] = {
    "job_id": lambda owner: owner.job,
    "key_id": lambda owner: owner.key_id,
    "file_id": lambda owner: owner.file,
    "batch_id": lambda owner: owner.batch,
    "upload_id": lambda owner: owner.upload,
}
COMMON = {"custom_id": "rye/2", "n": "0", "part": "0", "number": "0", "model": DEFAULT_MODEL, "model_id": DEFAULT_MODEL}

#: Fields of bodies that name what somebody owns, by the parameter that names the like in paths; None: it is looked for
#: among what its own path names.
IN_BODIES = {"input_file_id": "file_id", "part_ids": None}

#: Heads that differ between any two answers.
FLEETING = {"date", "x-request-id", "openai-processing-ms", "server-timing", "x-compute-time"}

LINES = b'{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "%s", "input": "wheat"}}\n'


@dataclass(frozen=True)
class Owner:
    """Key A: an HTTP client with it, and what belongs to it."""

    http: httpx.Client
    key_id: str
    job: str

    @property
    def file(self) -> str:
        """A file for a batch."""
        lines = LINES % DEFAULT_MODEL.encode()
        made = self.http.post("/v1/files", files={"file": ("a.jsonl", lines)}, data={"purpose": "batch"})
        return _id(made)

    @property
    def batch(self) -> str:
        """A batch of that file."""
        asked = {"input_file_id": self.file, "endpoint": "/v1/embeddings", "completion_window": "24h"}
        return _id(self.http.post("/v1/batches", json=asked))

    @property
    def upload(self) -> str:
        """An upload that takes parts."""
        asked = {"filename": "a.jsonl", "purpose": "batch", "bytes": 5, "mime_type": "application/jsonl"}
        return _id(self.http.post("/v1/uploads", json=asked))


@pytest.fixture(scope="module")
def document(keyed: Served) -> list[Operation]:
    """Every operation of the service."""
    with keyed.http() as http:
        return operations(http.get("/openapi.json").json())


@pytest.fixture(scope="module")
def client(keyed: Served) -> Iterator[Callable[..., httpx.Client]]:
    """Makes an HTTP client with a new key that has these scopes."""
    with ExitStack() as stack:
        yield lambda *scopes: stack.enter_context(keyed.http(keyed.service.stores.keys.create("matrix", scopes)[1]))


@pytest.fixture(scope="module")
def owner(keyed: Served) -> Iterator[Owner]:
    """Key A, which has one of everything."""
    made, key = keyed.service.stores.keys.create("owner")
    records = [("wheat", "wheat-1", "", None), ("rye", "rye/2", "", None)]
    job = keyed.service.client.submit_records(records, with_ids=True, key_id=made.id)
    job.wait(60)
    with keyed.http(key) as http:
        yield Owner(http, made.id, job.id)


@pytest.fixture(scope="module")
def mine(owner: Owner, document: list[Operation]) -> dict[str, str]:
    """One of everything that key A owns, by the parameter that names it in paths."""
    named = {name for operation in document for name in operation.parameters}
    return {name: get(owner) for name, get in OWNED.items() if name in named}


@pytest.fixture(scope="module")
def nobodys(mine: dict[str, str]) -> dict[str, str]:
    """Ids of the same form that nobody has."""
    return {name: unlike(value) for name, value in mine.items()}


def _id(made: httpx.Response) -> str:
    assert made.is_success, made.text
    return str(made.json()["id"])


def unlike(value: str) -> str:
    """Return an id of the same form as another one."""
    changed = value[-12:].translate(str.maketrans("abcdef234567", "badcfe325476"))
    assert changed != value[-12:], "choose another id"
    return value[:-12] + changed


def seen(answer: httpx.Response, value: str = "") -> tuple[int, list[tuple[str, str]], bytes]:
    """Return all that an answer tells, with an id in it made out."""
    heads = sorted((name, told) for name, told in answer.headers.items() if name not in FLEETING)
    body = answer.content if answer.is_stream_consumed else b"(a stream)"
    return answer.status_code, heads, body.replace(value.encode(), b"<id>") if value else body


def test_every_parameter_of_a_path_is_one_that_the_matrix_knows(document: list[Operation]) -> None:
    assert len(document) > 10
    unknown = {name for operation in document for name in operation.parameters} - OWNED.keys() - COMMON.keys()
    assert not unknown, "name them in OWNED, or in COMMON where they name nothing that anybody owns"


def test_whatever_is_open_to_all_is_so_on_purpose(keyed: Served, document: list[Operation]) -> None:
    is_open = [operation for operation in document if not operation.needs_key]
    assert {operation.path for operation in is_open} == OPEN
    with keyed.http() as http:
        for operation in is_open:
            assert operation.send(http, COMMON).status_code not in (401, 403)


def test_without_a_good_key_no_route_lets_anybody_in_or_tells_why(
    keyed: Served, document: list[Operation], mine: dict[str, str]
) -> None:
    # Given keys that are unknown, malformed, revoked and expired
    stores = keyed.service.stores
    revoked, revoked_key = stores.keys.create("revoked", ["admin"])
    stores.keys.revoke(revoked.id)
    _, expired_key = stores.keys.create("expired", ["admin"], expires_in=0.001)
    with ExitStack() as stack:
        bad = [f"em_{'a' * 16}_{'b' * 32}", "em_", revoked_key, expired_key]
        nobody, *others = [stack.enter_context(keyed.http(key)) for key in (None, *bad)]
        # Then every route that needs one answers all of them, and no key, with the same 401
        for operation in document:
            if operation.needs_key:
                refused = seen(operation.send(nobody, COMMON | mine))
                assert refused[0] == 401, operation
                assert ("www-authenticate", "Bearer") in refused[1], operation
                for http in others:
                    assert seen(operation.send(http, COMMON | mine)) == refused, operation


def test_a_key_without_the_scope_is_refused_by_every_route(
    document: list[Operation], nobodys: dict[str, str], client: Callable[..., httpx.Client]
) -> None:
    # Given keys with one scope each
    callers = {scope: client(scope) for scope in ("read", "write", "embed")}
    admin = client("admin")
    for operation in document:
        if not operation.needs_key:
            continue
        answers = {scope: operation.send(http, COMMON | nobodys) for scope, http in callers.items()}
        allowed = {scope for scope, answer in answers.items() if answer.status_code != 403}
        # Then whoever lacks the scope is told so
        for answer in answers.values():
            if answer.status_code == 403 and operation.method != "HEAD":
                assert "scope" in json.dumps(answer.json()), operation
        # And to look never needs the right to write, nor does the right to look allow any change
        assert len(allowed) in (0, 1, 3), f"{operation}: {allowed}"
        if operation.method in ("GET", "HEAD"):
            assert allowed != {"write"}, operation
        elif operation.path not in READING:
            assert "read" not in allowed, operation
        # And an admin may do everything, and is then told that there is no such thing, or what the request lacks
        answer = operation.send(admin, COMMON | nobodys)
        assert answer.status_code not in (401, 403, 500), f"{operation}: {answer.status_code}"


def test_what_is_anothers_is_answered_as_what_nobody_has(
    document: list[Operation], mine: dict[str, str], nobodys: dict[str, str], client: Callable[..., httpx.Client]
) -> None:
    # Given key B, which may do whatever keys usually may
    other = client("read", "write", "embed")
    for operation in document:
        owned = [name for name in operation.parameters if name in mine]
        if not owned:
            continue
        # When it asks for what key A has, then for what nobody has
        foreign = operation.send(other, COMMON | mine)
        unknown = operation.send(other, COMMON | nobodys)
        # Then both answers are the same, byte for byte, apart from the id
        assert foreign.status_code == (403 if owned == ["key_id"] else 404), f"{operation}: {foreign.status_code}"
        assert seen(foreign, mine[owned[0]]) == seen(unknown, nobodys[owned[0]]), operation


def test_what_is_anothers_is_nobodys_in_a_body_too(
    document: list[Operation],
    owner: Owner,
    mine: dict[str, str],
    nobodys: dict[str, str],
    client: Callable[..., httpx.Client],
) -> None:
    other = client("read", "write", "embed")
    for operation in document:
        for field in operation.named_in_body:
            assert field in IN_BODIES, f"{operation}: {field} is to be named in IN_BODIES"
            name = IN_BODIES[field]
            if name is not None:
                foreign = operation.send(other, COMMON | nobodys, body={field: mine[name]})
                unknown = operation.send(other, COMMON | nobodys, body={field: nobodys[name]})
                assert foreign.is_client_error, operation
                assert seen(foreign, mine[name]) == seen(unknown, nobodys[name]), operation
                # And the owner's own request is a good one
                assert operation.send(owner.http, COMMON | mine, body={field: mine[name]}).is_success, operation


def test_lists_hold_nothing_of_others_and_go_on_behind_anything_alike(
    document: list[Operation], mine: dict[str, str], nobodys: dict[str, str], client: Callable[..., httpx.Client]
) -> None:
    other = client("read", "write", "embed")
    for operation in document:
        if operation.method != "GET" or set(operation.parameters) & mine.keys():
            continue
        told = operation.send(other, COMMON)
        body = told.text if told.is_stream_consumed else ""
        assert not [value for value in mine.values() if value in body], operation
        for cursor in operation.cursors():
            for name, value in mine.items():
                foreign = operation.send(other, COMMON, {cursor: value})
                unknown = operation.send(other, COMMON, {cursor: nobodys[name]})
                assert seen(foreign, value) == seen(unknown, nobodys[name]), f"{operation} {cursor}={name}"


def test_the_owner_and_an_admin_see_what_another_key_does_not(
    document: list[Operation], owner: Owner, mine: dict[str, str], client: Callable[..., httpx.Client]
) -> None:
    # So that the answers above are no accident of a request that nobody could make
    for http in (owner.http, client("admin")):
        for operation in document:
            owned = [name for name in operation.parameters if name in mine and name != "key_id"]
            if operation.method == "GET" and owned:
                answer = operation.send(http, COMMON | mine)
                assert answer.status_code != 403, operation
                if answer.status_code == 404:
                    assert operation.path.endswith("/content"), operation
