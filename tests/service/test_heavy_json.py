"""JSON that would become hundreds of times as large as it is: no few kilobytes of brackets hold up everybody."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from producer.api.settings import ApiSettings
from tests.service.serving import Served, serving

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}

#: Longest answer, in seconds of this process, in which the service runs: what is sent here took from 17 s to hours.
_LONGEST = 10


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service as it is by default, over an empty database."""
    with serving(ApiSettings.load(data_dir=tmp_path_factory.mktemp("plain"))) as served:
        yield served


@pytest.fixture
def client(plain: Served) -> Iterator[httpx.Client]:
    """An HTTP client of `plain`."""
    with plain.http() as client:
        yield client


def _refused_at_once(client: httpx.Client, path: str, body: bytes, status: int) -> str:
    began = time.process_time()
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code == status
    assert time.process_time() - began < _LONGEST
    return answer.text


def test_a_text_of_quotes_without_an_end_is_refused_at_once(client: httpx.Client) -> None:
    # Given brackets, and behind them a text of which each quote might begin another one
    body = b"[" * 65 + b'"' + b'\\"' * 1_000_000
    # When sent, then it is refused as it always was, and nobody waits
    assert "nested too deeply" in _refused_at_once(client, "/v1/jobs", body, 400)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs", b'{"items": [' + b"{}," * 300_000 + b"{}]}"),
        ("/v1/jobs", b'{"labels": {' + b'"a":1,' * 300_000 + b'"a":1}}'),
        ("/v1/embeddings", b'{"input": [' + b"[]," * 300_000 + b"[]]}"),
        ("/v1/embeddings", b"{" + b'"a":1,' * 2_000 + b'"a":1}'),
        ("/embed", b'{"inputs": [' + b"null," * 300_000 + b"null]}"),
        ("/decode", b'{"ids": [' + b"-1," * 1_200_000 + b"-1]}"),
    ],
)
def test_more_values_than_any_request_needs_are_refused(client: httpx.Client, path: str, body: bytes) -> None:
    assert "more values" in _refused_at_once(client, path, body, 413)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embed", b'{"inputs": [' + b"null," * 100_000 + b"null]}"),
        ("/tokenize", b'{"inputs": [' + b"null," * 100_000 + b"null]}"),
        ("/decode", b'{"ids": [' + b"-1," * 500_000 + b"-1]}"),
        ("/decode", b'{"ids": [' + b"[-1]," * 250_000 + b"[-1]]}"),
    ],
)
def test_of_many_values_that_are_wrong_the_first_is_told_at_once(client: httpx.Client, path: str, body: bytes) -> None:
    _refused_at_once(client, path, body, 422)


def test_texts_may_hold_as_many_marks_as_they_like(client: httpx.Client) -> None:
    # Given a text with more commas, brackets and quotes than a request may have values
    text = '[{"a": 1}, \\ "' * 60_000
    # When it is submitted, then by itself it is nothing unusual
    for body, headers in ((json.dumps({"texts": [text]}), JSON), (json.dumps({"text": text}), NDJSON)):
        answer = client.post("/v1/jobs", content=body, headers=headers)
        assert answer.status_code == 202, answer.text


def test_a_line_of_too_many_values_is_an_invalid_item(client: httpx.Client) -> None:
    # Given lines of which one would become far larger than it is
    lines = b'"rye"\n{"text": "wheat", "more": [' + b"[]," * 100_000 + b"[]]}\n"
    # When sent, then it is that one which is told of
    answer = client.post("/v1/jobs", content=lines, headers=NDJSON)
    problems = answer.json()["error"]["problems"]
    assert [problem["where"] for problem in problems] == ["line 2"] and "more values" in problems[0]["reason"]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/embeddings", "/embed"])
def test_json_in_another_encoding_is_refused(client: httpx.Client, path: str) -> None:
    # Given an encoding in which other letters have the bytes of a quote
    body = json.dumps({"texts": ["∢"], "input": "∢"}, ensure_ascii=False).encode("utf-16")
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code in (400, 422) and "UTF-8" in answer.text
