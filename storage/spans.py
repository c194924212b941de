"""Spans of jobs by OpenTelemetry's SDK, told to a collector over OTLP; imported only where traces are wanted.

A span is made when what it tells of is over, with the times it had. The first of a job's trace, `submit`, has an id
that follows from the job's, so that every process knows its parent without being told.
"""

from __future__ import annotations

import atexit
import socket
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from hashlib import blake2b
from importlib.metadata import version
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from storage.contract.messages import Pointer
from storage.jobstatus import JobStatus
from storage.tracing import Sampling, trace_id

#: A moment, what happened, and what is told of it.
Event = tuple[int, str, dict[str, Any]]


class Spans:
    """Makes the spans of a process.

    Args:
        role: What kind of process this is.
        sampling: Which jobs and chunks have a trace.
    """

    def __init__(self, role: str, sampling: Sampling) -> None:
        self.sampling = sampling
        about = {"service.version": version("embedmill"), "embedmill.role": role, "host.name": socket.gethostname()}
        resource = Resource.create(about)
        if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "embedmill"}))
        self._ids = _Ids()
        # What is taken was decided before; spans that are not taken are never begun.
        provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._ids)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = provider.get_tracer("embedmill", version("embedmill"))
        atexit.register(provider.shutdown)

    def new_job_id(self, at: float) -> str:
        """Make the id of a job, which says what the trace of the caller's own has decided."""
        caller = _caller()
        return self.sampling.new_job_id(None if caller is None else caller.trace_flags.sampled, at)

    def submitted(self, job_id: str, begin: int, **told: Any) -> None:
        """Make the first span of a job's trace, and one in the caller's own that leads there.

        Args:
            job_id: The job that was accepted.
            begin: When its submission began, in nanoseconds since 1970.
            **told: What else the span tells.
        """
        caller = _caller()
        taken = self.sampling.takes(job_id)
        attributes = _attributes(job_id=job_id, **told)
        if taken:
            links = [] if caller is None else [Link(caller)]
            with self._ids.next(trace_id(job_id), _root(job_id)):
                span = self._tracer.start_span("submit", Context(), SpanKind.PRODUCER, attributes, links, begin)
            span.end()
        if caller is not None and caller.trace_flags.sampled:
            links = [Link(_context(job_id, _root(job_id)))] if taken else []
            inside = trace.set_span_in_context(NonRecordingSpan(caller), Context())
            self._tracer.start_span("submit a job", inside, SpanKind.INTERNAL, attributes, links, begin).end()

    def dispatched(self, pointers: Collection[Pointer], begin: int) -> None:
        """Make a span for each job whose chunks were sent just now, where one of these has spans.

        Args:
            pointers: What was sent.
            begin: When that began.
        """
        chunks: dict[str, list[int]] = {}
        for pointer in pointers:
            chunks.setdefault(pointer.job_id, []).append(pointer.chunk)
        for job_id, numbers in chunks.items():
            taken = [number for number in numbers if self.sampling.takes_chunk(job_id, number)]
            if taken:
                attributes = _attributes(job_id=job_id, chunk=taken[0], chunks=len(numbers))
                self._begin("dispatch", job_id, begin, attributes, kind=SpanKind.PRODUCER).end()

    def attempted(
        self,
        job_id: str,
        begin: int,
        parts: Iterable[tuple[str, int, int]],
        events: Iterable[Event],
        failed: bool,
        **told: Any,
    ) -> None:
        """Make the spans of one attempt at a chunk that is over.

        Args:
            job_id: Its job.
            begin: When it began to wait.
            parts: What was done, from when to when.
            events: What happened meanwhile.
            failed: Whether it came to nothing.
            **told: What else the span of the whole tells.
        """
        chunk = self._begin("chunk", job_id, begin, _attributes(job_id=job_id, **told), kind=SpanKind.CONSUMER)
        inside = trace.set_span_in_context(chunk, Context())
        for name, start, end in parts:
            self._tracer.start_span(name, inside, start_time=start).end(end)
        for moment, what, about in events:
            chunk.add_event(what, _attributes(**about), moment)
        if failed:
            chunk.set_status(Status(StatusCode.ERROR))
        chunk.end()

    def ended(self, jobs: Sequence[JobStatus]) -> None:
        """Make the span of each job that has ended, from its acceptance to its end.

        Args:
            jobs: Where they stand.
        """
        for job in jobs:
            if job.finished_at is None:
                continue
            counts = {"total": job.total, "succeeded": job.succeeded, "failed": job.failed, "tokens": job.tokens}
            attributes = _attributes(job_id=job.id, model=job.model, state=job.state, **counts)
            span = self._begin("job", job.id, _nanoseconds(job.created_at), attributes)
            if job.state == "failed":
                span.set_status(Status(StatusCode.ERROR))
            span.end(_nanoseconds(job.finished_at))

    def _begin(
        self, name: str, job_id: str, begin: int, attributes: dict[str, Any], kind: SpanKind = SpanKind.INTERNAL
    ) -> Span:
        parent = NonRecordingSpan(_context(job_id, _root(job_id)))
        inside = trace.set_span_in_context(parent, Context())
        return self._tracer.start_span(name, inside, kind, attributes, start_time=begin)


class _Ids(IdGenerator):
    """Random ids, but for a span whose ids are known before."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self._known = threading.local()

    def next(self, trace_id: int, span_id: int) -> _Ids:
        """Take these for the span that is begun in the block by this thread."""
        self._known.trace_id, self._known.span_id = trace_id, span_id
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self._known.trace_id = self._known.span_id = None

    def generate_trace_id(self) -> int:
        return getattr(self._known, "trace_id", None) or self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        return getattr(self._known, "span_id", None) or self._random.generate_span_id()


def now() -> int:
    """Return nanoseconds since 1970."""
    return time.time_ns()


def _caller() -> SpanContext | None:
    """Return the span of the caller's own in which this thread works, if there is one."""
    context = trace.get_current_span().get_span_context()
    return context if context.is_valid else None


def _root(job_id: str) -> int:
    return int.from_bytes(blake2b(job_id.encode(), digest_size=8, person=b"submit").digest(), "big") or 1


def _context(job_id: str, span_id: int) -> SpanContext:
    return SpanContext(trace_id(job_id), span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _attributes(**told: Any) -> dict[str, Any]:
    return {f"embedmill.{name}": value for name, value in told.items() if value is not None}


def _nanoseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1_000) * 1_000_000
