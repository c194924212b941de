"""Traces of jobs: whether they are made, which jobs and chunks have one, and who follows a thread's work.

The trace of a job has the job's id, and so needs no place of its own in a message or a row: a UUIDv7 is a trace id.
Whether a job has a trace is written in its id too: its last 56 bits are random, and compared with the share that is
wanted. Where a caller's own trace decides, the producer makes an id that says the same. Nothing of OpenTelemetry is
imported before `start` finds that somebody wants traces.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from storage.contract.errors import MissingExtra, ServerError
from storage.contract.ids import new_id
from storage.contract.settings import Settings
from storage.jobstatus import JobStatus

if TYPE_CHECKING:
    from storage.spans import Spans

#: Bits of an id that decide, all of them random.
_BITS = 56
_ALL = 1 << _BITS

#: Ids at either end of the range say what a caller's trace has decided, whatever the share.
_SAID = 1 << 40

#: Of a job's chunks the first 32 have spans, then 16 of each further doubling: about 230 of a hundred thousand.
_FEW = 5

#: What makes the spans of this process; None: there are none.
spans: Spans | None = None


@dataclass(frozen=True)
class Sampling:
    """Which jobs and chunks have a trace.

    Args:
        ratio: Share of the jobs, 0 to 1.
        by_parent: Whether a caller's trace decides where there is one.
        all_chunks: Whether every chunk has spans, however many there are.
    """

    ratio: float = 1.0
    by_parent: bool = True
    all_chunks: bool = False

    @classmethod
    def of_environment(cls, all_chunks: bool = False) -> Sampling:
        """Return what `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` ask for."""
        name = os.environ.get("OTEL_TRACES_SAMPLER", "parentbased_always_on").strip().lower()
        kind = name.removeprefix("parentbased_")
        try:
            asked = float(os.environ.get("OTEL_TRACES_SAMPLER_ARG", "1"))
        except ValueError:
            asked = 1.0
        ratio = {"always_off": 0.0, "traceidratio": min(1.0, max(0.0, asked))}.get(kind, 1.0)
        return cls(ratio, name != kind, all_chunks)

    def takes(self, job_id: str) -> bool:
        """Return whether a job has a trace; the same in every process that was told the same share."""
        number = trace_id(job_id) % _ALL
        if number < _SAID or number >= _ALL - _SAID:
            return number >= _SAID
        return number >= (1.0 - self.ratio) * _ALL

    def takes_chunk(self, job_id: str, number: int) -> bool:
        """Return whether a chunk has spans."""
        step = max(0, number.bit_length() - _FEW)
        return self.takes(job_id) and (self.all_chunks or number >> step << step == number)

    def new_job_id(self, parent_sampled: bool | None, at: float | None = None) -> str:
        """Make the id of a job.

        Args:
            parent_sampled: What the caller's trace has decided; None: there is none.
            at: As for `new_id`.
        """
        job_id = new_id(at)
        if parent_sampled is None or not self.by_parent:
            # Ids that would say what nobody has said are left to those who do.
            while not _SAID <= trace_id(job_id) % _ALL < _ALL - _SAID:
                job_id = new_id(at)
            return job_id
        said = secrets.randbits(40) + (_ALL - _SAID if parent_sampled else 0)
        return f"{job_id[:-15]}{said >> 48:02x}-{said & 0xFFFF_FFFF_FFFF:012x}"


def trace_id(job_id: str) -> int:
    """Return the trace id of a job: its id, as a number."""
    return int(job_id.replace("-", ""), 16)


def start(settings: Settings, role: str) -> None:
    """Make spans in this process from now on, where they are wanted; may be called again.

    Args:
        settings: Say whether.
        role: What kind of process this is, such as `worker`.

    Raises:
        MissingExtra: When traces were asked for by name and OpenTelemetry is not installed.
    """
    global spans
    if spans is not None or not _wanted(settings):
        return
    from storage.spans import Spans

    spans = Spans(role, Sampling.of_environment(settings.trace_chunks == "all"))


def new_job_id(at: float) -> str:
    """Make the id of a job, which says whether it has a trace.

    Args:
        at: Seconds since 1970.
    """
    return new_id(at) if spans is None else spans.new_job_id(at)


def ended(job_ids: Collection[str], look: Callable[[list[str]], list[JobStatus]]) -> None:
    """Note that jobs have ended.

    Args:
        job_ids: Which.
        look: Returns where some jobs stand, without those deleted meanwhile.
    """
    if spans is None or not job_ids:
        return
    traced = [job_id for job_id in job_ids if spans.sampling.takes(job_id)]
    if traced:
        with suppress(ServerError):
            spans.ended(look(traced))


@contextmanager
def called(traceparent: str | None, tracestate: str | None) -> Iterator[None]:
    """Let what is submitted in the block belong to a caller's trace.

    Args:
        traceparent: The header of that name, as it came; one that cannot be read counts as none.
        tracestate: The same of its companion.
    """
    if spans is None or traceparent is None:
        yield
        return
    from opentelemetry import context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    told = {"traceparent": traceparent} | ({"tracestate": tracestate} if tracestate is not None else {})
    token = context.attach(TraceContextTextMapPropagator().extract(told))
    try:
        yield
    finally:
        context.detach(token)


def outgoing() -> dict[str, str]:
    """Return the headers that tell a service which trace of the caller's own its request belongs to."""
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers


def _wanted(settings: Settings) -> bool:
    if settings.traces == "off" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if settings.traces == "otlp":
        if not _installed():
            raise MissingExtra("Tracing", "otel")
        return True
    by_otlp = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "otlp"
    return by_otlp and any(os.environ.get(name) for name in _ENDPOINTS) and _installed()


def _installed() -> bool:
    try:
        return all(find_spec(name) is not None for name in _PACKAGES)
    except ModuleNotFoundError:
        # A package that they lie in is not there.
        return False


_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PACKAGES = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
