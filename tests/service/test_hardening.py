"""The service against those who send too much, too slowly, too deeply, or on behalf of somebody else."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.responses import StreamingResponse

from producer.api import guard, protocol
from producer.api.settings import ApiSettings
from tests.acceptance.shell import until
from tests.service.serving import Served, serving

MOST = 20_000

#: Longest exchange, in seconds: longer than any machine stands still, and shorter than the service's patience with a
#: body, which is a minute.
_PATIENCE = 50

#: Headers that every answer has.
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


#: A request whose body comes in pieces.
_IN_PIECES = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service that takes little, over an empty database."""
    limits = {"max_body_bytes": MOST, "max_part_bytes": 2 * MOST}
    with serving(ApiSettings.load(data_dir=tmp_path_factory.mktemp("small"), **limits)) as served:
        yield served


@pytest.fixture
def little(small: Served) -> Iterator[httpx.Client]:
    """An HTTP client of `small`."""
    with small.http() as client:
        yield client


@pytest.mark.parametrize(
    ("path", "declared"),
    [("/v1/jobs", True), ("/v1/jobs", False), ("/embed", True), ("/embed", False), ("/v1/uploads/x/parts", True)],
)
def test_a_body_that_is_too_large_is_refused(little: httpx.Client, path: str, declared: bool) -> None:
    # Given a body of more than is allowed, with its length before it or without
    block = b"x" * 1_000
    body: bytes | Iterator[bytes] = block * 150 if declared else (block for _ in range(150))
    # When sent, then it is refused, and it is said how much is allowed
    answer = little.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert f"{MOST:,}" in answer.text or "140,000" in answer.text
    assert answer.headers["Connection"] == "close"
    _assert_dressed(answer)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed", "/nowhere", "/signin", "/jobs/x/cancel"])
def test_only_what_is_read_as_it_comes_may_be_as_large_as_a_part(little: httpx.Client, path: str) -> None:
    # Given a form of more than a body may have that is kept in memory as a whole
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    # When it is sent where no file is taken, then it is refused
    assert little.post(path, content=b"x" * 2 * MOST, headers=form).status_code == 413
    # But where one is, it is read
    assert little.post("/jobs", content=b"x" * 2 * MOST, headers=form).status_code != 413


@pytest.mark.parametrize("media", ["application/x-ndjson", "application/jsonl", "application/x-jsonlines"])
def test_a_stream_of_lines_has_any_length_by_each_of_its_names(little: httpx.Client, media: str) -> None:
    # Given more lines than a body may have that is kept in memory as a whole
    lines = b'"rye"\n' * MOST
    # When they are sent, then all of them are read
    answer = little.post("/v1/jobs", content=lines, headers={"Content-Type": media})
    assert (answer.status_code, answer.json().get("total")) == (202, MOST)


def test_a_compressed_body_is_refused(little: httpx.Client) -> None:
    # Given a small body that would become a large one
    bomb = gzip.compress(b"[" + b"0," * 1_000_000 + b"0]")
    # When sent, then it is not unpacked
    answer = little.post("/v1/jobs", content=bomb, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "body",
    [b"[" * 9_000, b'{"a":' * 2_000 + b"1" + b"}" * 2_000, b'{"texts": [' + b"[" * 70 + b"]" * 70 + b"]}"],
    ids=["without an end", "objects", "lists"],
)
def test_json_that_is_nested_too_deeply_is_refused(little: httpx.Client, body: bytes) -> None:
    answer = little.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and "nested too deeply" in answer.text


def test_brackets_in_texts_are_no_nesting(little: httpx.Client) -> None:
    # Given texts full of brackets, quotes and backslashes, when sent, then they are texts like any other
    texts = ["[" * 3_000, '\\"' + "{" * 3_000]
    assert little.post("/v1/jobs", json={"texts": texts}).json().get("total") == 2
    # And names full of them, and many lists side by side, are refused for what they are, and not for their depth
    body = json.dumps({"texts": texts, 'b"[[\\': 1, "c": [[]] * 200, "d": [{"e": {}}] * 200})
    answer = little.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and 'b\\"[[' in answer.text and "nested" not in answer.text


def test_a_body_that_stops_coming_is_not_waited_for(tmp_path: Path) -> None:
    # Given a service of little patience, and a request that promises more than it sends
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    # When nothing more comes, then it is answered, and the connection ends
    with serving(ApiSettings.load(data_dir=tmp_path, body_seconds=1)) as hasty:
        told = _exchange(hasty.url, head)
    assert told.startswith(b"HTTP/1.1 408 ") and b"too_slow" in told


def test_a_request_that_does_not_begin_is_not_waited_for(small: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given little patience
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    # When a head has no end, or does not even begin, then the connection is closed
    for sent in (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", b""):
        assert _exchange(small.url, sent) == b""


def test_a_request_that_lay_there_while_the_service_stood_still_is_answered(
    small: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service that stands still with a new connection, for longer than a head may take
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    made, over = threading.Event(), threading.Event()
    connection_made = protocol.PatientNoLonger.connection_made

    def stand_still(self: protocol.PatientNoLonger, transport: asyncio.Transport) -> None:
        connection_made(self, transport)
        made.set()
        over.wait(60)

    monkeypatch.setattr(protocol.PatientNoLonger, "connection_made", stand_still)
    url = httpx.URL(small.url)
    with socket.create_connection((url.host, url.port or 80), timeout=60) as connection:
        assert made.wait(60)
        # When the request comes meanwhile
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        time.sleep(0.6)
        over.set()
        # Then it is answered all the same
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_a_head_that_is_too_large_is_refused(small: Served) -> None:
    # Given a header without an end
    told = _exchange(small.url, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 200_000)
    # Then it is not kept, and the service goes on (a connection that ends while one writes loses its answer)
    assert told.startswith(b"HTTP/1.1 431 ") or told == b""
    assert _is_well(small)


@pytest.mark.parametrize(
    "sent", [b"What is this?\r\n\r\n", b"GET /v1/jobs?name=" + b"a" * 66_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"]
)
def test_what_is_no_request_is_answered_as_our_own_routes_answer(small: Served, sent: bytes) -> None:
    told = _exchange(small.url, sent)
    head, body = told.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"application/json" in head
    assert json.loads(body)["error"]["code"] == "invalid_option" and _is_well(small)


@pytest.mark.parametrize("loose", [b"a:b\r\n", b"a"], ids=["many", "one without an end"])
def test_headers_behind_a_body_are_not_kept_without_an_end(small: Served, loose: bytes) -> None:
    # Given a request in pieces, and behind the last of them headers that do not end
    began = time.process_time()
    told = _exchange(small.url, _IN_PIECES + b"2\r\n{}\r\n0\r\n" + loose * 1_000_000)
    # Then they are not read to the end of all patience
    assert told.startswith(b"HTTP/1.1 431 ") or told == b""
    assert time.process_time() - began < 10 and _is_well(small)


def test_a_body_in_very_small_pieces_is_read_all_the_same(small: Served) -> None:
    # Given a body whose pieces have more bytes around them than in them, more than a head may have
    body = b'{"texts": 1}' + b" " * (MOST - 12)
    pieces = b"".join(b"1\r\n%c\r\n" % letter for letter in body)
    # When sent with a header behind it, then it is read, and judged as a whole
    told = _exchange(small.url, _IN_PIECES + pieces + b"0\r\nX-Sum: 1\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 400 ") and b'"param":"texts"' in told


def test_a_reader_who_does_not_read_is_not_waited_for(small: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given little patience, and an answer without an end
    monkeypatch.setattr(guard, "SEND_SECONDS", 0.3)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000

    small.app.add_api_route("/endless", lambda: StreamingResponse(endless()))
    # When somebody asks for it and reads nothing
    place = httpx.URL(small.url)
    with socket.create_connection((place.host, place.port or 80), _PATIENCE) as wire:
        wire.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        # Then the request ends all the same, and is counted as such
        counted = 'embedmill_http_requests_total{method="GET",route="/endless"'
        with small.http() as http:
            until(lambda: counted in http.get("/metrics").text, "its end")


def test_every_answer_has_its_headers_and_a_request_id(little: httpx.Client) -> None:
    # Given answers of all kinds, then each has all of them
    for path in ("/healthz", "/nowhere", "/openapi.json", "/metrics", "/v1/jobs/unknown"):
        _assert_dressed(little.get(path))
    # And a request id that is short and plain is kept, any other is not
    assert little.get("/healthz", headers={"X-Request-ID": "mill-1.a_B"}).headers["X-Request-ID"] == "mill-1.a_B"
    for odd in ("a b", "x" * 65, "<script>", ""):
        given = little.get("/healthz", headers={"X-Request-ID": odd}).headers["X-Request-ID"]
        assert given != odd and len(given) == 32
    # And it is in no body
    assert "mill-2" not in little.get("/nowhere", headers={"X-Request-ID": "mill-2"}).text


def test_an_error_nobody_foresaw_is_told_without_what_was_in_it(
    small: Served, little: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a route that breaks with a text in its hands
    def broken() -> None:
        raise RuntimeError("xylophone-secret")

    small.app.add_api_route("/broken", broken)
    # When called
    with caplog.at_level(logging.DEBUG):
        answer = little.get("/broken")
    # Then neither answer nor log holds it, and the log says where that was
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "error"
    _assert_dressed(answer)
    assert "xylophone" not in answer.text + caplog.text and "RuntimeError at" in caplog.text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "203.0.113.9", "[::1", ""]
)
def test_without_keys_the_service_answers_under_no_foreign_name(little: httpx.Client, host: str) -> None:
    answer = little.get("/v1/jobs", headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_request")
    # But whoever looks after machines may call it anything
    assert little.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "[::1]:8000", "a.localhost"]
)
def test_without_keys_the_service_answers_under_this_machines_names(little: httpx.Client, host: str) -> None:
    assert little.get("/openapi.json", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"},
        {"Sec-Fetch-Site": "cross-site", "Content-Type": "application/x-www-form-urlencoded"},
        {"Sec-Fetch-Site": "same-site", "Content-Type": "multipart/form-data; boundary=x"},
        {"Origin": "https://evil.example", "Content-Type": "text/plain"},
    ],
)
def test_without_keys_no_page_of_another_site_gets_through(little: httpx.Client, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/v1/jobs"), ("DELETE", "/v1/jobs/x"), ("POST", "/v1/files"), ("PUT", "/x")):
        answer = little.request(method, path, content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_request")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_without_keys_no_page_of_another_site_has_this_machine_compute_unseen(
    little: httpx.Client, headers: dict[str, str]
) -> None:
    for path in ("/tokens?text=rye", "/v1/jobs/x/results?format=parquet"):
        answer = little.get(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_request")
    # But what looks after machines is answered
    assert little.get("/healthz", headers=headers).status_code == 200


def test_without_keys_programs_and_our_own_page_get_through(small: Served, little: httpx.Client) -> None:
    # Given what a browser sends for our own page, for a link to it, and what programs send
    own = {"Origin": small.url, "Sec-Fetch-Site": "same-origin"}
    assert little.post("/v1/jobs", json={}, headers=own).status_code != 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert little.get("/openapi.json", headers=link).status_code == 200
    assert little.get("/tokens", headers=link).status_code == 200
    assert little.post("/v1/files", files={"file": b"x"}, data={"purpose": "batch"}).status_code != 403


def test_requests_are_counted_by_the_template_of_their_route(little: httpx.Client) -> None:
    # Given requests with an id in their path, and one that leads nowhere
    little.get("/v1/jobs/0197f2a3-0000-7000-8000-000000000000/events")
    little.get("/xylophone")
    # When asked for figures, then they are counted without the id, and with their status
    told = little.get("/metrics").text
    assert 'embedmill_http_requests_total{method="GET",route="/v1/jobs/{job_id}/events",status="404"}' in told
    assert 'embedmill_http_requests_total{method="GET",route="elsewhere",status="404"}' in told
    assert "0197f2a3" not in told and "xylophone" not in told
    assert 'embedmill_http_request_seconds_bucket{le="0.1",method="GET"' in told


def _assert_dressed(answer: httpx.Response) -> None:
    for name, value in ALWAYS.items():
        assert answer.headers[name] == value, (answer.url, name)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "Cache-Control" in answer.headers and answer.headers["X-Request-ID"]


def _is_well(served: Served) -> bool:
    with served.http() as http:
        return http.get("/healthz").status_code == 200


def _exchange(url: str, sent: bytes) -> bytes:
    """Send bytes, and return all that is answered until the other side hangs up."""
    place = httpx.URL(url)
    told = b""
    with socket.create_connection((place.host, place.port or 80), _PATIENCE) as wire:
        began = time.monotonic()
        try:
            wire.sendall(sent)
            while block := wire.recv(65536):
                told += block
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert time.monotonic() - began < _PATIENCE
    return told
