"""A collector of traces: takes OTLP over HTTP, decodes it, keeps every span."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """One span, as it came over the wire.

    Args:
        trace: Its trace's id, in hexadecimal.
        id: Its own.
        parent: That of its parent; empty where there is none.
        name: What it calls itself.
        role: Which kind of process made it.
        begin: In nanoseconds since 1970.
        end: The same.
        told: Its attributes.
        events: What happened in it, and what was told of that.
        links: Traces and spans that it points at.
        failed: Whether it says that it failed.
    """

    trace: str
    id: str
    parent: str
    name: str
    role: str
    begin: int
    end: int
    told: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    links: list[tuple[str, str]]
    failed: bool


@dataclass
class Collector:
    """What has come in.

    Args:
        url: Where it listens, as OTEL_EXPORTER_OTLP_ENDPOINT has it.
        spans: All of them, in the order they came.
        raw: The bodies, decompressed.
    """

    url: str
    spans: list[Seen] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        """Keep what a body holds."""
        self.raw.append(body)
        request = ExportTraceServiceRequest.FromString(body)
        for of_resource in request.resource_spans:
            role = _attributes(of_resource.resource.attributes)["embedmill.role"]
            for of_scope in of_resource.scope_spans:
                self.spans += [_seen(span, role) for span in of_scope.spans]

    def trace(self, job_id: str) -> list[Seen]:
        """Return the spans of a job's trace."""
        return [span for span in list(self.spans) if span.trace == job_id.replace("-", "")]


def _seen(span: Any, role: str) -> Seen:
    return Seen(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        role,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _attributes(span.attributes),
        [(event.name, _attributes(event.attributes)) for event in span.events],
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        span.status.code == 2,
    )


def _attributes(told: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in told}


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collect until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            good = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if good:
                collector.take(body)
            self.send_response(200 if good else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
