"""Submissions as NDJSON streams of any length."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from types import SimpleNamespace

import pytest

from producer.api import bodylimits, uploading
from producer.api.settings import ApiSettings
from producer.api.shares import Shares
from storage.contract.states import JobState
from storage.jobfilter import JobFilter
from tests.acceptance.shell import until
from tests.service.serving import Served, serving
from tests.storage.builders import CARD, serve

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service over an empty database of its own, which knows a model and has no worker."""
    with serving(ApiSettings.load(data_dir=tmp_path_factory.mktemp("alone"), model=CARD.name)) as served:
        serve(served.service.stores)
        yield served


def unsealed(served: Served) -> list[str]:
    """Return the jobs that are still being submitted."""
    return served.service.stores.jobs.list_ids(wanted=JobFilter(states=[JobState.ACCEPTING]))


def lines(*values: object) -> bytes:
    """Return values as NDJSON."""
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def test_a_stream_of_lines_becomes_a_job(alone: Served) -> None:
    with alone.http() as http:
        # Given lines of which each is a string or an object, sent in pieces cut anywhere, without a length
        body = lines("wheat", {"text": "rye", "more": [1]}, "spelt\u2028oats").removesuffix(b"\n")
        pieces = (body[i : i + 7] for i in range(0, len(body), 7))
        answer = http.post("/v1/jobs?name=stream&dimensions=2", content=pieces, headers=NDJSON)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == answer.json()["links"]["self"]
        assert (answer.json()["total"], answer.json()["name"]) == (3, "stream")
        record = alone.service.stores.jobs.get(answer.json()["id"])
        assert (record.options["dimensions"], record.has_ids) == (2, False)
        # And labels, and fields of other names
        body = lines({"body": "wheat", "key": 1}, {"body": "rye", "key": "2"})
        asked = {"text_field": "body", "id_field": "key", "labels": '{"a": "b"}', "on_invalid": "keep"}
        status = http.post("/v1/jobs", params=asked, content=body, headers=NDJSON).json()
        assert (status["labels"], status["failed"]) == ({"a": "b"}, 0)
        assert http.get(f"/v1/jobs/{status['id']}/items/1").json()["position"] == 0


def test_bad_lines_are_named_and_nothing_is_kept_or_they_are_kept_as_errors(alone: Served) -> None:
    bad = [
        (b"", "blank line"),
        (b'{"text": "x"', "not JSON at character 13"),
        (b'"\xff"', "not UTF-8 at byte 2"),
        (b'"\\ud800"', "the text has a lone surrogate at character 0"),
        (b"[1]", "neither a JSON string nor an object"),
        (b'{"txt": "x"}', "missing field 'text'"),
        (b'{"text": null}', "the text is missing, not a string"),
        (b'{"text": "x", "id": 7}', "the item has an id, but the first one has none"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "a number is too long"),
        (b'""', "the text is empty"),
        (b'"' + b"x" * 1_000_001 + b'"', "the text has 1,000,001 bytes, more than the limit of 1,000,000"),
        (b'"' + b"x" * (17 << 20) + b'"', "line longer than 16 MiB"),
    ]
    body = b'"wheat"\n' + b"".join(line + b"\n" for line, _ in bad) + b'"NUL \\u0000 is text"\n'
    with alone.http() as http:
        answer = http.post("/v1/jobs", content=body, headers=NDJSON)
        assert answer.status_code == 400
        problems = answer.json()["error"]["problems"]
        assert [(one["where"], one["reason"]) for one in problems] == [
            (f"line {number}", reason) for number, (_, reason) in enumerate(bad, 2)
        ]
        assert unsealed(alone) == alone.service.stores.jobs.list_ids() == []
        status = http.post("/v1/jobs?on_invalid=keep", content=body, headers=NDJSON).json()
        assert (status["total"], status["failed"], status["pending"]) == (15, 13, 2)


def test_what_is_asked_beside_a_stream_is_checked(alone: Served) -> None:
    with alone.http() as http:
        for query in ("labels=x", "labels=[1]", "labels={}&x=1", "normalize=perhaps", "text_field=", "id_field=%00"):
            answer = http.post(f"/v1/jobs?{query}", content=lines("wheat"), headers=NDJSON)
            assert (answer.status_code, query) == (400, query)
        assert http.post("/v1/jobs", content=b"", headers=NDJSON).json()["error"]["code"] == "invalid_option"
        # A refusal is seen by one who first writes all, and nothing of what he writes is kept
        body = (lines("wheat" * 1000) for _ in range(1000))
        assert http.post("/v1/jobs?model=nobody", content=body, headers=NDJSON).status_code == 404
        assert unsealed(alone) == []


def test_the_same_stream_under_the_same_key_is_the_same_job(alone: Served) -> None:
    headers = NDJSON | {"Idempotency-Key": "stream-1"}
    with alone.http() as http:
        first, again = (http.post("/v1/jobs", content=lines("wheat"), headers=headers) for _ in range(2))
        assert first.json() == again.json()
        assert http.post("/v1/jobs", content=lines("rye"), headers=headers).status_code == 422


def test_a_cut_connection_leaves_nothing(alone: Served) -> None:
    # Given a stream that is so long that some of it is written already
    host, port = alone.url.removeprefix("http://").split(":")
    line = lines("wheat " * 200)
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/x-ndjson\r\n"
        connection.sendall(f"{head}Content-Length: 100000000\r\n\r\n".encode())
        while not unsealed(alone):
            connection.sendall(line * 1000)
    # When the connection is cut, it goes
    until(lambda: not unsealed(alone), "the job to go")
    assert unsealed(alone) == alone.service.stores.jobs.list_ids() == []


def test_a_long_stream_takes_little_memory(alone: Served) -> None:
    line = lines("wheat and rye " * 700)
    with alone.http() as http:
        http.post("/v1/jobs", content=iter([line] * 100), headers=NDJSON)
        tracemalloc.start()
        status = http.post("/v1/jobs", content=(line for _ in range(5000)), headers=NDJSON).json()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # 50 MB go through some blocks, a group of chunks and its packed form
    assert status["total"] == 5000
    assert peak < 32_000_000


def test_a_stream_may_be_slow_unless_it_keeps_others_from_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service that takes in two bodies at a time, on a clock that goes sixty times as fast: what comes all the
    # time is soon slow, and silence is long on any machine
    monkeypatch.setattr(uploading, "places", Shares(2, ("Full.", "Come again.", 1)))
    monkeypatch.setattr(bodylimits, "time", SimpleNamespace(monotonic=lambda: 60 * time.monotonic()))
    settings = ApiSettings.load(data_dir=tmp_path, model=CARD.name, body_seconds=30)
    with serving(settings) as served, served.http() as http, ExitStack() as stack:
        serve(served.service.stores)
        # When one comes more slowly than a whole body may, then it is taken all the same
        assert http.post("/v1/jobs", content=slowly(12), headers=NDJSON).status_code == 202
        # When as many such come as there are places, then one of them is told why it is cut, or both where they are
        # judged in the same moment
        callers = stack.enter_context(ThreadPoolExecutor(2))
        gone = threading.Event()
        stack.callback(gone.set)
        cut = [callers.submit(post_slowly, served, gone) for _ in range(2)]
        until(lambda: uploading.places.taken == 2 or any(one.done() for one in cut), "both to be taken in")
        # And another one finds room
        until(lambda: http.post("/v1/jobs", content=lines("rye"), headers=NDJSON).status_code == 202, "room")
        done, _ = wait(cut, 60, FIRST_COMPLETED)
        assert {one.result() for one in done} == {(408, "too_slow")}


def slowly(pieces: int = 1_000_000, gone: threading.Event | None = None) -> Iterator[bytes]:
    """Yield lines in pieces of a few bytes, ten a second."""
    for _ in range(pieces):
        if (gone or threading.Event()).wait(0.1):
            return
        yield lines("rye")


def post_slowly(served: Served, gone: threading.Event) -> tuple[int, str]:
    """Return the status and the code that are answered to a stream that comes slowly until it is cut, or let go."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/x-ndjson\r\n"
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for piece in slowly(gone=gone):
            # (httpx would go on sending until it may not)
            if select.select([connection], [], [], 0)[0]:
                return answered(connection)
            try:
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            except ConnectionError:  # it was hung up on between the look and this; what was answered is here
                return answered(connection)
    return 0, "let go"


def answered(connection: socket.socket) -> tuple[int, str]:
    """Return the status and the code that have come on a connection."""
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, json.loads(answer.read())["error"]["code"]
