"""Requests that carry a canary through every dialect, and into every kind of refusal."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np

from tests.service.canary import Canary

#: The limits of the service that these requests are sent to, by the names of its settings.
LIMITS = {"MAX_BODY_BYTES": 100_000, "MAX_TEXT_BYTES": 10_000, "MAX_PART_BYTES": 150_000, "MAX_ITEMS": 50}

NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}

#: An id of a job that nobody has.
NOBODYS = "01234567-89ab-7def-8123-456789abcdef"

#: An answer, and what of the canary may be in it.
Answer = tuple[httpx.Response, tuple[str, ...]]


def embedded(http: httpx.Client, canary: Canary, hooks: list[str]) -> list[str]:
    """Embed the canary through every dialect; note its vectors, return the jobs it was embedded in.

    Args:
        http: With the canary's key.
        canary: What is sent.
        hooks: Addresses that the ends of jobs are told to.
    """
    song, first, second = canary.song(), f"{canary.custom_id}/1", f"{canary.custom_id}/2"
    items = [{"id": first, "text": song}, {"id": second, "text": f"{song} Twice."}]
    jobs = [_id(http.post("/v1/jobs", json={"items": items, "webhook": {"url": url}}), 202) for url in hooks]
    lines = b"".join(json.dumps(one).encode() + b"\n" for one in items)
    jobs.append(_id(http.post("/v1/jobs", content=lines, headers=NDJSON), 202))
    parted = _id(http.post("/v1/jobs", json={"parts": True}), 201)
    assert http.put(f"/v1/jobs/{parted}/parts/0", content=lines, headers=NDJSON).is_success
    assert http.put(f"/v1/jobs/{parted}/parts/0", content=lines * 2, headers=NDJSON).status_code == 409
    assert http.post(f"/v1/jobs/{parted}/seal").is_success
    jobs.append(parted)
    batch = _batch(http, [_line(first, input=song), _line(second, input=[song, song], dimensions=64)])
    for form in ("float", "base64"):
        answer = http.post("/v1/embeddings", json={"input": [song], "encoding_format": form})
        assert answer.is_success, answer.text
    canary.vectors.append(
        np.frombuffer(base64.b64decode(answer.json()["data"][0]["embedding"]), dtype="<f4").astype(np.float32)
    )
    # What is looked for is what would be told.
    told = http.post("/v1/embeddings", json={"input": song, "encoding_format": "float"}).content
    assert canary.heard(told) == ["vector"]
    for path in ("/embed", "/", "/invocations"):
        assert http.post(path, json={"inputs": song}).is_success
    states = http.post("/embed_all", json={"inputs": song})
    assert states.is_success
    canary.vectors.append(np.array(states.json()[0][1], dtype=np.float32))
    assert "vector" in canary.heard(states.content)
    assert http.post("/tokenize", json={"inputs": song}).is_success
    assert http.post("/v1/tokens", json={"text": song}).is_success
    _by_page(http, canary)
    for job in jobs:
        _until(http, f"/v1/jobs/{job}", "state", "completed")
        assert http.get(f"/v1/jobs/{job}/items/{first}").json()["status"] == "succeeded"
        assert second in http.get(f"/v1/jobs/{job}/results?format=jsonl").text
        assert http.get(f"/v1/jobs/{job}/events").is_success
    _until(http, f"/v1/batches/{batch}", "status", "completed")
    return jobs


def refused(http: httpx.Client, canary: Canary, job: str) -> Iterator[Answer]:
    """Send the canary wherever it is refused.

    Args:
        http: With the canary's key.
        canary: What is sent.
        job: A job that has ended.
    """
    song, custom_id = canary.song(), canary.custom_id
    bad: list[dict[str, Any]] = [{"texts": [song, value]} for value in ("", " ", None, 7, {"a": song}, "\ud800")]
    bad += [{"texts": song}, {"texts": {"a": song}}, {"texts": [song], "pooling": song}, {"texts": [song] * 60}]
    bad += [{"texts": [song], "model": f"nobody/{custom_id[:5]}"}, {"texts": [song], "priority": song}]
    bad += [{"texts": [song], "dimensions": 10_000}, {"texts": [song], "labels": [song]}, {"items": [{"text": [song]}]}]
    bad += [{"items": [{"id": custom_id, "text": song}] * 2}, {"items": [{"id": custom_id * 40, "text": song}]}]
    bad += [{"texts": [canary.song(20_000)]}, {"items": [{"id": custom_id, "text": song}, {"text": song}]}]
    bad += [
        {"texts": [song], "prompt": song, "prompt_name": "none"},
        {"texts": [song], "on_long": "error", "layer": 99},
    ]
    bad += [
        {"texts": [song], "webhook": {"url": f"{scheme}{canary.hook}"}} for scheme in ("ftp://x/", "http://10.0.0.1/")
    ]
    for body in bad:
        yield http.post("/v1/jobs", content=json.dumps(body), headers=JSON), ()
    raw = [b"{", b"[", f'{{"texts": ["{song}"'.encode(), f'"{song}"'.encode(), f'["{song}", ]'.encode(), song.encode()]
    raw += [f'{{"texts": ["{song}"'.encode() + b"\xff]}", b"[" * 5_000 + song.encode(), canary.song(200_000).encode()]
    for path in (
        "/v1/jobs",
        "/v1/embeddings",
        "/embed",
        "/v1/tokens",
        "/tokenize",
        "/v1/batches",
        "/v1/uploads",
        "/decode",
    ):
        for content in raw:
            yield http.post(path, content=content, headers=JSON), ()
        yield http.post(path, content=song, headers={"Content-Type": "text/plain"}), ()
        yield http.post(path, content=song, headers={**JSON, "Content-Encoding": "gzip"}), ()
    lines = [f'"{song}"\n{song}\n', f'{{"id": "{custom_id}", "text": 5}}\n', f'"{song}"\n["{song}"]\n', f'"{song}\n']
    lines += [f'{{"id": "{custom_id}", "text": "{song}"}}\n' * 2, f'"{canary.song(20_000)}"\n']
    for content in lines:
        yield http.post("/v1/jobs", content=content, headers=NDJSON), ()
    yield from _refused_calls(http, canary)
    yield from _refused_looks(http, canary, job)
    yield from _refused_files(http, canary)
    yield from _refused_by_page(http, canary)


def wrong_keys(url: str, canary: Canary) -> Iterator[Answer]:
    """Ask with the canary's key, but not quite, in each place where keys are looked for."""
    key = canary.key
    turned = f"{key[:-1]}{'a' if key[-1] != 'a' else 'b'}"
    told = [f"Bearer {turned}", f"Bearer {key}x", f"Basic {key}", key, f"bearer  {key}{key}"]
    with httpx.Client(base_url=url, timeout=60) as http:
        for path in ("/v1/jobs", "/v1/keys", "/v1/embeddings", "/embed", "/v1/nothing"):
            for header in told:
                yield http.post(path, json={"texts": [canary.song()]}, headers={"Authorization": header}), ()
            yield http.get(path, params={"api_key": key, "key": key}), ()
            yield http.get(path, headers={"X-API-Key": turned, "Cookie": f"embedmill={key}"}), ()
        yield http.post("/signin", data={"key": turned}), ()
        yield http.post("/signin", content=key, headers=JSON), ()


def _refused_calls(http: httpx.Client, canary: Canary) -> Iterator[Answer]:
    song = canary.song()
    openai: list[dict[str, Any]] = [{"input": value} for value in ([], [song, ""], {"a": song}, [1, 2], [[song]], None)]
    openai += [{"input": song, "encoding_format": song}, {"input": song, "dimensions": song}, {"input": [song] * 3_000}]
    openai += [{"input": song, "model": "nobody/none"}, {"input": song * 900}, {"input": song, "prompt_name": "none"}]
    openai += [{"input": f"{song} ru" * 300, "on_long": "error"}, {"input": song, "user": [song]}]
    for body in openai:
        yield http.post("/v1/embeddings", json=body), ()
    tei: list[dict[str, Any]] = [
        {"inputs": value} for value in ([], "", " ", [song, ""], {"a": song}, [[song]], None, 5)
    ]
    tei += [{"inputs": song, "truncation_direction": song}, {"inputs": song, "normalize": song}, {"input": song}]
    tei += [
        {"inputs": f"{song} ru" * 300, "truncate": False},
        {"inputs": song * 900},
        {"inputs": song, "dimensions": 9_999},
    ]
    for path in ("/embed", "/embed_all", "/tokenize", "/invocations", "/rerank", "/predict", "/v1/nothing"):
        for body in tei:
            yield http.post(path, json=body), ()
    for body in (
        {"text": [song]},
        {"text": song * 900},
        {"text": song, "model": "nobody/none"},
        {"text": song, "padding": song},
    ):
        yield http.post("/v1/tokens", json=body), ()
    yield http.post("/decode", json={"ids": [song]}), ()


def _refused_looks(http: httpx.Client, canary: Canary, job: str) -> Iterator[Answer]:
    for one in (job, NOBODYS):
        # Whoever asks for an item by its id is told which id there is none of.
        yield http.get(f"/v1/jobs/{one}/items/{canary.custom_id}/none"), ("custom_id",)
        yield http.get(f"/v1/jobs/{one}/items", params={"position": canary.text}), ()
        yield http.get(f"/v1/jobs/{one}/items", params={"custom_id": f"{canary.custom_id}/none"}), ()
        yield http.get(f"/v1/jobs/{one}/results", params={"format": canary.text, "after": canary.text}), ()
        yield http.put(f"/v1/jobs/{one}/parts/0", content=json.dumps(canary.song()), headers=NDJSON), ()
        yield http.post(f"/v1/jobs/{one}/seal", json={"parts": canary.song()}), ()
        yield http.post(f"/v1/jobs/{one}/retry" if one == NOBODYS else f"/v1/jobs/{one}/seal"), ()
        yield http.get(f"/v1/jobs/{one}/webhooks"), ("hook",)
    yield http.get("/v1/jobs", params={"before": canary.text, "state": canary.text}), ()
    key = {"Idempotency-Key": "canary"}
    assert http.post("/v1/jobs", json={"texts": [canary.song()]}, headers=key).is_success
    yield http.post("/v1/jobs", json={"texts": [canary.song(9)]}, headers=key), ()


def _refused_files(http: httpx.Client, canary: Canary) -> Iterator[Answer]:
    song, custom_id = canary.song(), canary.custom_id
    for content in (song, canary.song(200_000)):
        yield http.post("/v1/files", files={"file": ("a", content.encode())}, data={"purpose": song}), ()
        yield http.post("/v1/files", content=content, headers={"Content-Type": "multipart/form-data"}), ()
    lines = [song, json.dumps([song]), _line(custom_id, input=song), _line(custom_id, input=song)]
    lines += [_line(f"{custom_id}3", input=[song, ""]), _line(f"{custom_id}4", input=song, pooling=song)]
    lines += [
        _line(f"{custom_id}5", input=song, model="nobody/none"),
        json.dumps({"custom_id": custom_id, "url": song}),
    ]
    batch = _batch(http, lines)
    # A batch's errors are its own data, and name its lines; but never their texts.
    ended = _until(http, f"/v1/batches/{batch}", "status", "completed", "failed")
    yield ended, ("custom_id",)
    for name in ("error_file_id", "output_file_id"):
        if ended.json().get(name):
            yield http.get(f"/v1/files/{ended.json()[name]}/content"), ("custom_id",)
    asked = {"filename": "a", "purpose": "batch", "bytes": 5, "mime_type": "application/jsonl"}
    upload = _id(http.post("/v1/uploads", json=asked), 200)
    yield http.post(f"/v1/uploads/{upload}/parts", files={"data": ("a", song.encode())}), ()
    yield http.post(f"/v1/uploads/{upload}/complete", json={"part_ids": [custom_id[:5]], "md5": song}), ()


def _by_page(http: httpx.Client, canary: Canary) -> None:
    with httpx.Client(base_url=http.base_url, timeout=60, follow_redirects=True) as page:
        token = _signed_in(page, canary)
        assert page.post("/jobs", data={"texts": canary.song(), "token": token}).is_success
        assert page.get("/tokens", params={"text": canary.song()}).is_success


def _refused_by_page(http: httpx.Client, canary: Canary) -> Iterator[Answer]:
    with httpx.Client(base_url=http.base_url, timeout=60, follow_redirects=True) as page:
        token = _signed_in(page, canary)
        # A form that is refused is given back as it was filled in.
        for fields in ({"max_length": "x"}, {"pooling": "x"}, {"model": "nobody/none"}):
            yield page.post("/jobs", data={"texts": canary.song(), "token": token} | fields), ("text",)
        file = {
            "file": ("a.jsonl", f'{{"id": "{canary.custom_id}", "text": "{canary.song()}"}}\n{canary.song()}'.encode())
        }
        yield page.post("/jobs", data={"token": token, "id_field": "id"}, files=file), ()
        yield page.post("/jobs", data={"texts": canary.song(), "token": "x"}), ()
        yield page.post("/jobs", content=canary.song(), headers=JSON), ()
        yield page.get(f"/jobs/{NOBODYS}"), ()


def _signed_in(page: httpx.Client, canary: Canary) -> str:
    assert page.post("/signin", data={"key": canary.key}).is_success
    found = re.search(r'name="token" value="([0-9a-f]+)"', page.get("/").text)
    assert found
    return found[1]


def _line(custom_id: str, **body: object) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body})


def _batch(http: httpx.Client, lines: list[str]) -> str:
    content = "\n".join(lines).encode()
    file = _id(http.post("/v1/files", files={"file": ("a.jsonl", content)}, data={"purpose": "batch"}), 200)
    asked = {"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    return _id(http.post("/v1/batches", json=asked), 200)


def _until(http: httpx.Client, path: str, name: str, *wanted: str) -> httpx.Response:
    deadline = time.monotonic() + 60
    while True:
        answer = http.get(path)
        if answer.json()[name] in wanted:
            return answer
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def _id(made: httpx.Response, status: int) -> str:
    assert made.status_code == status, made.text
    return str(made.json()["id"])
