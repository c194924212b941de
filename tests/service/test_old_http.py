"""Programs that speak HTTP/1.0 get whole answers: they know no pieces with sizes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from producer.api.settings import ApiSettings
from tests.service.serving import Served, serving
from tests.storage.builders import finish, serve, submit


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service over an empty database, with no worker."""
    with serving(ApiSettings.load(data_dir=tmp_path_factory.mktemp("old"))) as served:
        yield served


@pytest.fixture(scope="module")
def job(small: Served) -> str:
    """The path of a job that is completed."""
    stores = small.service.stores
    worker, job_id = serve(stores), submit(stores, 3)
    finish(stores, job_id, 3, worker)
    return f"/v1/jobs/{job_id}"


def asked(served: Served, path: str, method: str = "GET") -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of an answer to HTTP/1.0, read until the service closes the connection."""
    place = urlsplit(served.url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: {place.netloc}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    assert line.split()[1] == "200"
    return {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)}, body


def test_an_answer_without_a_length_ends_with_the_connection(small: Served, job: str) -> None:
    files = [f"{job}/results?format={format}" for format in ("jsonl", "npz", "npy", "arrow")]
    lacking = []
    with small.http() as http:
        for path in (*files, job, "/static/page.css", "/openapi.json"):
            # When something is asked for with HTTP/1.0
            headers, body = asked(small, path)
            # Then it is what those get who speak HTTP/1.1, byte for byte, and ends with the connection
            assert body == http.get(path).content and len(body) > 100, path
            assert "transfer-encoding" not in headers and headers["connection"] == "close"
            lacking += [path] if "content-length" not in headers else []
    assert lacking, "each answer had a length"
    assert asked(small, f"{job}/results?format=jsonl", "HEAD")[1] == b""


def test_a_stream_of_events_is_read_to_its_end(small: Served, job: str) -> None:
    headers, body = asked(small, f"{job}/events")
    assert headers["content-type"].startswith("text/event-stream")
    assert not body[:1].isdigit() and b'"completed"' in body and body.endswith(b"\n\n")
