"""A disk that fills up in the midst of things: the `openai` package is told, and nothing half-made counts or stays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import APIStatusError, OpenAI

from storage.quotas import Quota
from tests.service.smallservice import BATCH, NDJSON, Small, incompressible, small_service
from tests.storage.builders import serve_for_long

LARGE = os.urandom(3_000_000)

#: A server of its own takes its time: FAULTS=full asks for it.
_KINDS = ["sqlite", "postgresql"] if os.environ.get("FAULTS") == "full" else ["sqlite"]


@pytest.fixture(params=_KINDS)
def small(request: pytest.FixtureRequest) -> Iterator[Small]:
    """A service with keys over a database of its own on a small disk."""
    with small_service(request.param, Quota(texts=10**6)) as small:
        serve_for_long(small.served.service.stores)
        yield small


def refused(call: Callable[[], Any]) -> bool:
    """Return whether the package says that the disk is full, and what to do; it must be that or nothing."""
    try:
        call()
    except APIStatusError as error:
        assert error.status_code == 507
        assert "disk is full" in error.message and "Make room" in error.message
        assert error.code == "storage_full" and error.type == "server_error"
        return True
    return False


def test_the_openai_package_is_told_and_the_same_calls_are_good_with_room(small: Small) -> None:
    url = f"{small.served.url}/v1"
    with small.http() as http, OpenAI(base_url=url, api_key=small.key, max_retries=0, timeout=60) as openai:
        # Given a file, one upload with all its parts and one with none, a job with all its parts, and a full disk
        file = openai.files.create(file=("a.jsonl", BATCH), purpose="batch")
        known: dict[str, Any] = {"filename": "b.jsonl", "mime_type": "application/jsonl", "purpose": "batch"}
        whole, begun = (openai.uploads.create(bytes=size, **known) for size in (len(BATCH), len(LARGE)))
        part = openai.uploads.parts.create(whole.id, data=BATCH)
        job = http.post("/v1/jobs", json={"parts": True}).headers["location"]
        assert http.put(f"{job}/parts/0", content=b'"wheat"\n"rye"\n', headers=NDJSON).status_code == 200
        small.fill()
        large: dict[str, Callable[[], Any]] = {
            "file": lambda: openai.files.create(file=("c.jsonl", LARGE), purpose="batch"),
            "part": lambda: openai.uploads.parts.create(begun.id, data=LARGE),
        }
        little: dict[str, Callable[[], Any]] = {
            "upload": lambda: openai.uploads.create(bytes=1, **known),
            "completion": lambda: openai.uploads.complete(whole.id, part_ids=[part.id]),
            "batch": lambda: openai.batches.create(
                input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
            ),
        }
        # When each is called, then it is refused; a row more or less may find room in what PostgreSQL keeps for it
        assert [name for name, call in large.items() if not refused(call)] == []
        left = [name for name, call in little.items() if refused(call)]
        assert left == list(little) or small.kind == "postgresql"
        sealed = http.post(f"{job}/seal", json={"parts": 1, "items": 2})
        assert sealed.status_code == 507 or small.kind == "postgresql"
        # And nothing is there by half
        if "completion" in left:
            assert [one.id for one in openai.files.list()] == [file.id]
        if "batch" in left:
            assert openai.batches.list().data == []
        assert small.served.service.stores.uploads.received(begun.id) == 0
        if sealed.status_code == 507:
            assert http.get(job).json()["state"] == "accepting" and http.get(f"{job}/parts").json()["next"] == 1
        # When there is room again, then the same calls are good
        small.disk.relieve()
        made = openai.files.content(large["file"]().id).read()
        joined = openai.uploads.complete(begun.id, part_ids=[large["part"]().id]).file
        assert joined is not None and made == LARGE == openai.files.content(joined.id).read()
        assert all(little[name]().status in ("pending", "completed", "validating") for name in left)
        assert sorted(one.bytes for one in openai.files.list()) == [len(BATCH)] * 2 + [len(LARGE)] * 2
        assert http.post(f"{job}/seal", json={"parts": 1, "items": 2}).status_code == 202
        assert http.get(job).json()["total"] == 2


def test_what_a_full_disk_has_cut_off_counts_no_more_though_it_cannot_be_removed() -> None:
    # Given a key that may keep 250 texts, and a disk that has room for a part of 200
    lines = "\n".join(map(json.dumps, incompressible(200))).encode()
    with small_service("sqlite", Quota(texts=250)) as small, small.http() as http:
        serve_for_long(small.served.service.stores)
        parted = http.post("/v1/jobs", json={"parts": True}).headers["location"]
        stays = 0
        for method, path in (("PUT", f"{parted}/parts/0"), ("POST", "/v1/jobs")):
            small.fill(3 << 20)
            # When a part, and then a stream, comes in until it is full
            assert http.request(method, path, content=lines, headers=NDJSON).status_code == 507
            with small.served.service.stores.database.read() as connection:
                before, stays = stays, connection.exec_driver_sql("SELECT sum(size) FROM chunks").scalar_one() or 0
            assert stays > before, f"nothing is left of {path} that could count"
            small.disk.relieve()
            # Then nothing of it is seen, and all that the key may keep is taken
            assert http.get("/v1/jobs", params={"state": "accepting,queued"}).json()["data"][1:] == []
            assert http.get(parted).json()["total"] == 0
            made = http.post("/v1/jobs", json={"texts": ["wheat"] * 250})
            assert made.status_code == 202
            assert http.post("/v1/jobs", json={"texts": ["rye"]}).status_code == 429
            small.served.service.stores.jobs.cancel(made.json()["id"])
            assert http.delete(made.headers["location"]).status_code == 204
