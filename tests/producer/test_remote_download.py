"""Downloads that are cut, wherever they are cut."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from producer.output import Sink
from producer.remote import download
from producer.remote.connection import Connection
from producer.remote.download import Download, SinkTarget
from storage.contract.errors import Overloaded

FILE = b'{"position": 0}\n{"position": 1}\n'


class Cutting(BaseHTTPRequestHandler):
    """Serves the file without saying how long it is, and at first ends after some bytes without saying so either."""

    protocol_version = "HTTP/1.1"
    first_ends = len(FILE)
    refused = 0
    ranges: list[str | None]

    def do_GET(self) -> None:
        asked = self.headers.get("range")
        self.ranges.append(asked)
        if len(self.ranges) <= self.refused:
            self.refuse()
            return
        start = 0 if asked is None else int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(FILE):
            self.send_error(416)
            return
        body = FILE[start:] if asked else FILE[: self.first_ends]
        self.send_response(206 if asked else 200)
        self.send_header("ETag", '"oat"')
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(body), body) + (b"0\r\n\r\n" if asked else b""))
        self.close_connection = True

    def refuse(self) -> None:
        body = json.dumps({"error": {"message": "All places are taken.", "code": "overloaded"}}).encode()
        self.send_response(429)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def cutting(after: int, refused: int = 0) -> Iterator[tuple[str, list[str | None]]]:
    ranges: list[str | None] = []
    handler = type("Handler", (Cutting,), {"first_ends": after, "refused": refused, "ranges": ranges})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", ranges
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("after", [1, 16, len(FILE)])
def test_one_that_is_cut_before_its_end_is_said_goes_on_and_is_whole(after: int) -> None:
    # Given a service that is cut off, also behind the very last byte
    with cutting(after) as (url, ranges):
        connection, stream = Connection(url, None, 30), io.BytesIO()
        # When a file is fetched
        Download(connection, "j", {"format": "jsonl"}, SinkTarget(Sink(stream, "it"))).run()
        connection.close()
    # Then every byte is there, once
    assert stream.getvalue() == FILE
    assert ranges == [None, f"bytes={after - 1}-"]


def test_one_that_finds_no_place_waits_for_it_longer_than_for_a_service_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a service whose places are taken for longer than one that is away is sought
    with cutting(len(FILE), refused=10) as (url, ranges):
        connection, stream = Connection(url, None, 5), io.BytesIO()
        # When a file is fetched, then it is waited for
        Download(connection, "j", {"format": "parquet"}, SinkTarget(Sink(stream, "it"))).run()
        connection.close()
    assert stream.getvalue() == FILE and len(ranges) == 12
    # But not for ever
    monkeypatch.setattr(download, "_QUEUED", 0.0)
    with cutting(len(FILE), refused=1_000) as (url, ranges):
        connection = Connection(url, None, 5)
        with pytest.raises(Overloaded, match="All places are taken"):
            Download(connection, "j", {"format": "parquet"}, SinkTarget(Sink(io.BytesIO(), "it"))).run()
        connection.close()
