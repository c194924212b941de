"""HEAD, trailing slashes, media types, and other manners that proxies, monitors and clients count on."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from embedmill import Client
from tests.service.serving import Served


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz", "/info", "/", "/v1/models", "/metrics", "/ping"])
def test_head_is_answered_as_get_is_without_a_body(http: httpx.Client, path: str) -> None:
    head, get = http.head(path), http.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"") and head.is_success
    assert head.headers["Content-Type"] == get.headers["Content-Type"] if "Content-Type" in get.headers else True


def test_the_head_of_a_stream_ends_and_that_of_nothing_is_404(http: httpx.Client, data_dir: Path) -> None:
    # Given a job that waits, whose events would not end
    with Client(data_dir=data_dir, model="nobody/serves-this") as client:
        job = client.submit(["a text"])
        head = http.head(f"/v1/jobs/{job.id}/events")
        assert head.status_code == 200 and head.headers["Content-Type"].startswith("text/event-stream")
        job.cancel()
    assert http.head("/v1/jobs/0197f2a3-0000-7000-8000-000000000000").status_code == 404
    assert http.head("/v1/embeddings").status_code == 405
    # And requests are still counted by their routes
    assert 'route="/v1/jobs/{job_id}/events"' in http.get("/metrics").text


@pytest.mark.parametrize("path", ["/embed/", "/v1/jobs/", "/v1/embeddings/"])
def test_a_slash_too_many_sends_nobody_elsewhere(http: httpx.Client, path: str) -> None:
    answer = http.post(path, json={"inputs": "rye"})
    assert answer.status_code == 404 and "location" not in answer.headers
    assert ("error_type" in answer.json()) == (path == "/embed/")


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/batches", "/v1/uploads", "/embed", "/tokenize", "/v1/tokens"])
@pytest.mark.parametrize("media", ["application/x-www-form-urlencoded", "text/plain", None])
def test_json_that_is_called_otherwise_is_415(http: httpx.Client, path: str, media: str | None) -> None:
    headers = {} if media is None else {"Content-Type": media}
    answer = http.post(path, content=b'{"input": "rye"}', headers=headers)
    assert answer.status_code == 415 and "application/json" in answer.text


def test_what_nobody_answers_is_told_so_whatever_was_sent(http: httpx.Client) -> None:
    text = {"Content-Type": "text/plain"}
    assert http.post("/v1/nothing", content=b"rye", headers=text).status_code == 404
    assert http.patch("/v1/jobs", content=b"rye", headers=text).status_code == 405


def test_json_may_begin_as_files_of_windows_do(http: httpx.Client) -> None:
    content = b'\xef\xbb\xbf{"texts": ["rye"]}'
    answer = http.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 202


def test_openais_dialect_is_at_the_root_too(http: httpx.Client) -> None:
    told = [http.post(path, json={"input": "rye"}).json() for path in ("/embeddings", "/v1/embeddings")]
    assert told[0]["data"] == told[1]["data"]


def test_a_client_of_openais_is_told_what_not_to_send_again(http: httpx.Client, served: Served) -> None:
    # Given an upload that has ended, then adding to it will never succeed
    asked = {"filename": "a", "purpose": "batch", "bytes": 5, "mime_type": "application/jsonl"}
    upload = http.post("/v1/uploads", json=asked).json()["id"]
    assert http.post(f"/v1/uploads/{upload}/cancel").is_success
    late = http.post(f"/v1/uploads/{upload}/parts", files={"data": ("a", b"rye")})
    assert (late.status_code, late.headers["X-Should-Retry"]) == (409, "false")
    # And what is answered for the moment has a time to come again
    away = http.post("/v1/embeddings", json={"input": "rye", "model": "nobody/serves-this"})
    assert away.status_code in (404, 503) and "X-Should-Retry" not in away.headers


def test_an_upload_may_be_completed_again_with_the_same_parts(http: httpx.Client) -> None:
    # Given an upload that was completed, whose answer was lost
    asked = {"filename": "a", "purpose": "batch", "bytes": 3, "mime_type": "application/jsonl"}
    upload = http.post("/v1/uploads", json=asked).json()["id"]
    part = http.post(f"/v1/uploads/{upload}/parts", files={"data": ("a", b"rye")}).json()["id"]
    first = http.post(f"/v1/uploads/{upload}/complete", json={"part_ids": [part]})
    # When it is completed again, then it is the same file; with other parts it is refused
    again = http.post(f"/v1/uploads/{upload}/complete", json={"part_ids": [part]})
    assert first.json()["file"]["id"] == again.json()["file"]["id"]
    assert http.post(f"/v1/uploads/{upload}/complete", json={"part_ids": [part, part]}).status_code == 409


def test_an_asset_of_another_version_is_not_to_be_kept(http: httpx.Client) -> None:
    page = http.get("/").text
    path = next(word.split('"')[0] for word in page.split('href="')[1:] if word.startswith("/static/page.css"))
    assert "immutable" in http.get(path).headers["Cache-Control"]
    assert http.get("/static/page.css?v=000000000000").headers["Cache-Control"] == "no-store"
