"""Traces of jobs, from a running stack to a collector, with a worker killed in between."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from storage.tracing import Sampling, trace_id
from tests.acceptance.shell import Shell, address, until
from tests.acceptance.shell import serving as running
from tests.faults.forms import full
from tests.servers import short_folder
from tests.service.collector import Collector, Seen, collecting
from tests.stack import worker_pids
from tests.standstill import standing_still

#: Whoever calls is in this span of a trace of his own.
CALLER = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")

#: All that a span may tell.
TOLD = {
    *("job_id", "model", "kind", "priority", "texts", "chunks", "chunk", "token", "worker_id"),
    *("state", "total", "succeeded", "failed", "tokens"),
}
_EVENT = {"reason", "crashes", "claims", "failures", "kind"}


@dataclass
class Traced:
    """A running stack that tells its traces.

    Args:
        http: A client of its service.
        collector: Where they come in.
        process: The stack's first process.
        folder: Its data folder.
    """

    http: httpx.Client
    collector: Collector
    process: int
    folder: Path


@pytest.fixture(scope="module")
def traced() -> Iterator[Traced]:
    with short_folder() as folder, collecting() as collector:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        shell = Shell(folder / "data", folder, variables)
        log = folder / "log"
        with running(shell, "up", "--port", 0, log=log) as up, httpx.Client(base_url=address(log), timeout=60) as http:
            yield Traced(http, collector, up.pid, folder / "data")


def submit(traced: Traced, texts: list[str], **headers: str) -> str:
    answer = traced.http.post("/v1/jobs", json={"texts": texts}, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def whole(traced: Traced, job_id: str) -> list[Seen]:
    """Wait for the end of a job and of its trace, and return that."""
    done = lambda: traced.http.get(f"/v1/jobs/{job_id}").json()["state"] == "completed"  # noqa: E731
    until(done, "the job to be done", 240)
    until(lambda: _is_whole(traced.collector.trace(job_id)), "its spans", 60)
    return traced.collector.trace(job_id)


def _is_whole(spans: list[Seen]) -> bool:
    """Whether all of a trace is there: each process sends its own share, in its own time."""
    ids = {span.id for span in spans}
    told = {span.name: span.told for span in spans}
    if not {"submit", "job"} <= told.keys() or any(span.parent not in ids for span in spans if span.name != "submit"):
        return False
    chunks = {span.told["embedmill.chunk"] for span in spans if span.name == "chunk"}
    return len(chunks) >= told["submit"]["embedmill.chunks"]


def one(spans: list[Seen], name: str) -> Seen:
    found = [span for span in spans if span.name == name]
    assert len(found) == 1, (name, found)
    return found[0]


def test_a_job_is_one_trace_with_everything_in_its_place(traced: Traced) -> None:
    # Given a job, when it is done
    job_id = submit(traced, [f"wheat and barley, sack {number}" for number in range(700)])
    spans = whole(traced, job_id)
    # Then its trace has the job's id and one root, from which all others hang
    root = one(spans, "submit")
    assert root.trace == f"{trace_id(job_id):032x}" and root.parent == "" and root.role == "api"
    assert root.told["embedmill.texts"] == 700 and root.told["embedmill.job_id"] == job_id
    by_id = {span.id: span for span in spans}
    assert len(by_id) == len(spans)
    assert all(span.parent in by_id for span in spans if span is not root)
    chunks = [span for span in spans if span.name == "chunk"]
    assert [span.told["embedmill.chunk"] for span in chunks] != [] and {span.role for span in chunks} == {"worker"}
    assert {span.told["embedmill.chunk"] for span in chunks} == set(range(root.told["embedmill.chunks"]))
    assert {by_id[span.parent].name for span in [*chunks, one(spans, "job")]} == {"submit"}
    # And each chunk what was done with it, in its order
    for chunk in chunks:
        parts = sorted((span for span in spans if span.parent == chunk.id), key=lambda span: (span.begin, span.end))
        assert [span.name for span in parts] == ["wait", "claim", "read", "tokenize", "forward", "write"]
        assert chunk.begin <= parts[0].begin and parts[-1].end <= chunk.end and not chunk.failed
    sent = [span for span in spans if span.name == "dispatch"]
    assert sent and {span.parent for span in sent} == {root.id}
    last = one(spans, "job")
    assert last.told["embedmill.state"] == "completed" and last.told["embedmill.succeeded"] == 700
    assert last.end > last.begin


@full
def test_a_killed_workers_chunks_show_that_their_lease_was_lost(traced: Traced) -> None:
    # Given a job of which a worker has claimed something, and is killed with it
    job_id = submit(traced, [f"ryegrass at dawn, sack {number} " * 20 for number in range(900)])
    leased = lambda: _leased(traced, job_id)  # noqa: E731
    until(leased, "a chunk to be claimed", 120)
    (pid,) = worker_pids(traced.process)
    os.kill(pid, signal.SIGKILL)
    # When another start of it has done the job
    spans = whole(traced, job_id)
    # Then it is one trace all the same, of two starts at most, with what was lost and done again
    root = one(spans, "submit")
    by_id = {span.id: span for span in spans}
    assert all(span.parent in by_id for span in spans if span is not root)
    again = [span for span in spans if any(name == "retry" for name, _ in span.events)]
    assert again and {span.name for span in again} == {"chunk"} and not again[-1].failed
    lost = [about for span in again for name, about in span.events if name == "lease lost"]
    assert lost and {about["embedmill.reason"] for about in lost} == {"its worker died"}
    assert all(span.told["embedmill.token"] > 1 for span in again)


def _leased(traced: Traced, job_id: str) -> bool:
    told = traced.http.get("/metrics").text
    return 'embedmill_chunks{state="leased"} 0.0' not in told and "embedmill_chunks" in told


@pytest.mark.parametrize("flag", ["01", "00"])
def test_a_callers_trace_decides_and_leads_to_the_jobs(traced: Traced, flag: str) -> None:
    # Given a caller in a trace of his own, sampled or not
    job_id = submit(traced, ["oatmeal"], traceparent=f"00-{CALLER[0]}-{CALLER[1]}-{flag}")
    until(lambda: traced.http.get(f"/v1/jobs/{job_id}").json()["state"] == "completed", "the job", 120)
    # Then the job's id says the same to every process
    assert Sampling().takes(job_id) == (flag == "01")
    if flag == "00":
        # When a later job's trace is whole, then of this one there is nothing
        whole(traced, submit(traced, ["oatmeal"]))
        assert traced.collector.trace(job_id) == []
        return
    spans = whole(traced, job_id)
    # And where he wants it: the trace of the job points at his, and a span in his at that of the job
    root = one(spans, "submit")
    assert root.links == [CALLER]
    until(lambda: _of_caller(traced), "the span in the caller's trace", 60)
    ours = _of_caller(traced)
    assert [(span.name, span.parent, span.links) for span in ours] == [
        ("submit a job", CALLER[1], [(root.trace, root.id)])
    ]


def _of_caller(traced: Traced) -> list[Seen]:
    return [span for span in traced.collector.spans if span.trace == CALLER[0]]


def test_a_client_over_http_hands_its_callers_trace_on(traced: Traced) -> None:
    from opentelemetry import trace
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

    from embedmill import Client

    caller = SpanContext(0x1234 << 100, 0x5678, is_remote=False, trace_flags=TraceFlags(1))
    with Client(str(traced.http.base_url)) as client, trace.use_span(NonRecordingSpan(caller)):
        job_id = client.submit(["spelt"]).id
    root = one(whole(traced, job_id), "submit")
    assert root.links == [(f"{0x1234 << 100:032x}", f"{0x5678:016x}")]


def test_a_cancelled_job_says_so(traced: Traced) -> None:
    # Given a job that nobody does, as its worker stands still
    (pid,) = worker_pids(traced.process)
    with standing_still(pid, traced.folder / "embedmill.sqlite3"):
        job_id = submit(traced, ["millet"] * 200)
        assert traced.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
        until(lambda: "job" in {span.name for span in traced.collector.trace(job_id)}, "its last span", 60)
    assert one(traced.collector.trace(job_id), "job").told["embedmill.state"] == "cancelled"


def test_no_span_tells_a_text(traced: Traced) -> None:
    # Given all that has come in, then nothing in it is a text, and nothing is told but what may be
    whole(traced, submit(traced, ["buckwheat in the sieve"]))
    # (words so long that no number in it happens to read so)
    assert traced.collector.raw
    for body in traced.collector.raw:
        assert not any(word in body for word in (b"wheat", b"barley", b"ryegrass", b"oatmeal", b"spelt", b"millet"))
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            assert "service.name" in {one.key for one in of_resource.resource.attributes}
    for span in traced.collector.spans:
        assert {name.removeprefix("embedmill.") for name in span.told} <= TOLD, span
        for _, about in span.events:
            assert {name.removeprefix("embedmill.") for name in about} <= _EVENT, span
    assert json.dumps([span.told for span in traced.collector.spans])
