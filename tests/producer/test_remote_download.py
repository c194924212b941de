"""Downloads that are cut, wherever they are cut."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from producer.output import Sink
from producer.remote.connection import Connection
from producer.remote.download import Download, SinkTarget

FILE = b'{"position": 0}\n{"position": 1}\n'


class Cutting(BaseHTTPRequestHandler):
    """Serves the file without saying how long it is, and at first ends after some bytes without saying so either."""

    protocol_version = "HTTP/1.1"
    first_ends = len(FILE)
    ranges: list[str | None]

    def do_GET(self) -> None:
        asked = self.headers.get("range")
        self.ranges.append(asked)
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

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def cutting(after: int) -> Iterator[tuple[str, list[str | None]]]:
    ranges: list[str | None] = []
    handler = type("Handler", (Cutting,), {"first_ends": after, "ranges": ranges})
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
