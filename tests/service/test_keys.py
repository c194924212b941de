"""Keys at the door: who is let in, who governs keys, and that a revoked one is out at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from producer.api import knownkeys
from producer.api.auth import OPERATOR, authenticate
from storage.contract.errors import Unauthorized
from storage.contract.models import DEFAULT_MODEL as MODEL
from storage.quotas import Quota
from tests.service.serving import Served


@pytest.fixture
def admin(keyed: Served) -> Iterator[httpx.Client]:
    """An HTTP client with an admin's key."""
    _, key = keyed.service.stores.keys.create("admin", ["admin"])
    with keyed.http(key) as http:
        yield http


def test_a_key_is_made_shown_once_listed_and_revoked(keyed: Served, admin: httpx.Client) -> None:
    # When an admin makes a key
    wanted = {"name": "nightly", "scopes": ["read"], "expires_in": 60, "max_texts": 5, "tokens_per_minute": 1000}
    made = admin.post("/v1/keys", json=wanted)
    assert made.status_code == 201 and made.headers["cache-control"] == "no-store"
    body = made.json()
    # Then it is good for what was asked
    caller = authenticate(keyed.service, body["key"])
    assert (caller.key_id, caller.scopes, caller.name, caller.sees) == (body["id"], {"read"}, "nightly", body["id"])
    # And it is listed, without its secret
    listed = {one["id"]: one for one in admin.get("/v1/keys").json()["data"]}
    shown = listed[body["id"]]
    assert shown.pop("last_used_at") is not None  # by `authenticate`, just now
    assert shown == {name: value for name, value in body.items() if name not in ("key", "last_used_at")}
    assert (listed[body["id"]]["max_texts"], listed[body["id"]]["max_jobs"]) == (5, None)
    # When revoked, then it is good for nothing any more, and a second time is no error
    assert [admin.delete(f"/v1/keys/{body['id']}").status_code for _ in range(2)] == [204, 204]
    with pytest.raises(Unauthorized):
        authenticate(keyed.service, body["key"])
    assert admin.delete("/v1/keys/nobody").status_code == 404


@pytest.mark.parametrize(
    "dressed",
    [
        lambda key: {"Authorization": f"Bearer {key}"},
        lambda key: {"authorization": f"bearer  {key}"},
        lambda key: {"X-Api-Key": key},
        lambda key: {"api-key": key},
    ],
)
def test_a_key_may_come_in_any_usual_header(keyed: Served, dressed: Callable[[str], dict[str, str]]) -> None:
    _, key = keyed.service.stores.keys.create("any", ["admin"])
    with keyed.http() as http:
        assert http.get("/v1/keys", headers=dressed(key)).status_code == 200


def test_without_a_good_key_nobody_comes_in_and_without_the_scope_nobody_governs(keyed: Served) -> None:
    _, plain = keyed.service.stores.keys.create("plain")
    with keyed.http() as http:
        for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Basic YTpi"}, {"X-Api-Key": "em_a_b"}):
            refused = http.get("/v1/keys", headers=headers)
            assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
            assert refused.json()["error"]["code"] == "invalid_api_key"
        forbidden = http.get("/v1/keys", headers={"Authorization": f"Bearer {plain}"})
        assert (forbidden.status_code, forbidden.json()["error"]["code"]) == (403, "insufficient_scope")


def test_without_keys_the_bearer_is_ignored_and_everybody_is_the_operator(served: Served) -> None:
    assert authenticate(served.service, "em_whatever") is OPERATOR
    with served.http("no key at all") as http:
        assert http.get("/v1/keys").status_code == 200


def test_a_key_revoked_elsewhere_is_refused_within_five_seconds_and_a_busy_one_asks_the_database_rarely(
    keyed: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a key in use, on a machine that is never too slow for ten requests
    stores = keyed.service.stores
    _, busy = stores.keys.create("busy", ["admin"])
    asked: list[str] = []
    find = type(stores.keys).find
    with monkeypatch.context() as patch, keyed.http(busy) as http:
        patch.setattr(type(stores.keys), "find", lambda store, key: (asked.append(key), find(store, key))[1])
        patch.setattr(knownkeys, "_BELIEVED", 3600.0)
        for _ in range(10):
            assert http.get("/v1/keys").status_code == 200
        # Then ten requests have asked the database once
        assert asked == [busy]
    made, key = stores.keys.create("revoked", ["admin"])
    with keyed.http(key) as http:
        assert http.get("/v1/keys").status_code == 200
        # When another process revokes it, then no request is let in that comes five seconds later
        stores.keys.revoke(made.id)
        revoked = begun = time.monotonic()
        while http.get("/v1/keys").status_code == 200:
            assert begun - revoked < 5
            time.sleep(0.05)
            begun = time.monotonic()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": 5},
        {"name": "x" * 201},
        {"name": "a\0b"},
        {"name": "fine", "scopes": []},
        {"name": "fine", "scopes": ["rule"]},
        {"name": "fine", "scopes": "read"},
        {"name": "fine", "expires_in": 0},
        {"name": "fine", "expires_in": "soon"},
        {"name": "fine", "expires_in": 1e300},
        {"name": "fine", "expires_in": True},
        {"name": "fine", "keep_days": False},
        {"name": "fine", "keep_texts_days": "7"},
        {"name": "fine", "max_texts": 0},
        {"name": "fine", "max_jobs": 1.5},
        {"name": "fine", "max_stored_bytes": 0},
        {"name": "fine", "tokens_per_minute": True},
        {"name": "fine", "max_texts": 10**30},
        {"name": "fine", "unknown": 1},
        [],
        None,
    ],
)
def test_what_cannot_be_a_key_is_refused_over_http_too(admin: httpx.Client, body: object) -> None:
    before = len(admin.get("/v1/keys").json()["data"])
    refused = admin.post("/v1/keys", json=body)
    assert refused.status_code in (400, 422) and refused.json()["error"]["message"]
    assert len(admin.get("/v1/keys").json()["data"]) == before


def test_a_quota_that_is_used_up_is_told_with_when_to_come_again(keyed: Served) -> None:
    # Given a key for sixty tokens a minute, and one that may keep two texts
    keys = keyed.service.stores.keys
    _, slow = keys.create("slow", quota=Quota(tokens_per_minute=60))
    _, small = keys.create("small", quota=Quota(texts=2))
    with keyed.http(slow) as http:
        # When the first has submitted more than a minute's worth
        assert http.post("/v1/jobs", json={"texts": ["wheat and rye and barley and oats " * 30]}).status_code == 202
        # Then it is told when there is room again, on every way in
        for path, body in (("/v1/jobs", {"texts": ["rye"]}), ("/v1/embeddings", {"model": MODEL, "input": "rye"})):
            refused = http.post(path, json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_exceeded"), path
            assert 1 <= int(refused.headers["retry-after"]) <= 600
    with keyed.http(small) as http:
        # When the other sends one text too many, in any form, then it is told, and that no time helps
        lines = {"content": b'"wheat"\n"rye"\n"oats"\n', "headers": {"Content-Type": "application/x-ndjson"}}
        for sent in ({"json": {"texts": ["wheat", "rye", "oats"]}}, lines):
            refused = http.post("/v1/jobs", **sent)  # type: ignore[arg-type]
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_exceeded")
            assert "retry-after" not in refused.headers
        # And nothing of it is left, so that two still find room
        assert http.get("/v1/jobs").json()["data"] == []
        assert http.post("/v1/jobs", json={"texts": ["wheat", "rye"]}).status_code == 202


def test_files_that_are_more_than_a_key_may_keep_are_refused_by_each_way_in(keyed: Served, admin: httpx.Client) -> None:
    # Given a key that may keep twenty bytes, as an admin made it
    made = admin.post("/v1/keys", json={"name": "small", "max_stored_bytes": 20}).json()
    assert made["max_stored_bytes"] == 20
    with keyed.http(made["key"]) as http:
        purpose = {"purpose": "batch"}
        first = http.post("/v1/files", data=purpose, files={"file": ("a.jsonl", b"x" * 15)})
        assert first.status_code == 200
        # When more comes, as a file or as a part of an upload, then it is told, and that no time helps
        asked = {"filename": "b.jsonl", "purpose": "batch", "bytes": 15, "mime_type": "application/jsonl"}
        upload = http.post("/v1/uploads", json=asked).json()["id"]
        ways = [("/v1/files", purpose, "file"), (f"/v1/uploads/{upload}/parts", {}, "data")]
        for path, form, field in ways:
            refused = http.post(path, data=form, files={field: ("b.jsonl", b"y" * 15)})
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_exceeded"), path
            assert "retry-after" not in refused.headers and "20 bytes of files" in refused.text
        # And nothing of it is left: when the first is deleted there is room
        assert [file["id"] for file in http.get("/v1/files").json()["data"]] == [first.json()["id"]]
        http.delete(f"/v1/files/{first.json()['id']}")
        assert http.post("/v1/files", data=purpose, files={"file": ("b.jsonl", b"y" * 15)}).status_code == 200


def test_jobs_act_as_the_key_that_submitted_them(keyed: Served) -> None:
    made, key = keyed.service.stores.keys.create("actor")
    with keyed.http(key) as http:
        job = http.post("/v1/jobs", json={"texts": ["wheat"]}).json()["id"]
        assert [one["id"] for one in http.get("/v1/jobs").json()["data"]] == [job]
    assert keyed.service.stores.jobs.get(job).key_id == made.id
