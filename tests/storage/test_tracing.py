"""Which jobs and chunks have a trace: written in their ids, the same for everybody, and nothing where nobody asks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from storage.contract.ids import is_id, new_id
from storage.tracing import Sampling, trace_id


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
def test_a_share_of_the_jobs_has_a_trace(ratio: float) -> None:
    sampling = Sampling(ratio)
    taken = sum(sampling.takes(sampling.new_job_id(None)) for _ in range(4_000))
    assert abs(taken / 4_000 - ratio) < 0.04 and (ratio not in (0.0, 1.0) or taken == 4_000 * ratio)
    # And who takes more jobs takes those too that another takes
    for job_id in [new_id() for _ in range(500)]:
        assert not Sampling(0.1).takes(job_id) or Sampling(0.5).takes(job_id)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_what_a_callers_trace_has_decided_is_in_the_id_for_everybody(ratio: float) -> None:
    sampling = Sampling(ratio)
    for decided in (True, False):
        ids = [sampling.new_job_id(decided) for _ in range(300)]
        assert all(map(is_id, ids)) and len(set(ids)) == 300
        assert {sampling.takes(job_id) for job_id in ids} == {decided}
        # Also for a worker that was told another share
        assert {Sampling(share).takes(job_id) for share in (0.0, 0.5, 1.0) for job_id in ids} == {decided}
    # But not where callers have no say
    assert Sampling(ratio, by_parent=False).takes(Sampling(0.0, by_parent=False).new_job_id(True)) == (
        ratio == 1.0
    ) or (ratio == 0.3)


def test_of_ten_million_texts_a_few_hundred_chunks_have_spans() -> None:
    # Given a job of ten million texts in 125,000 chunks
    job_id = Sampling().new_job_id(True)
    taken = [number for number in range(125_000) if Sampling().takes_chunk(job_id, number)]
    # Then the first ones have spans, further ones ever more seldom, and all where that was asked for
    assert taken[:34] == [*range(32), 32, 34] and 200 < len(taken) < 260 and taken[-1] > 120_000
    assert all(Sampling(all_chunks=True).takes_chunk(job_id, number) for number in range(1_000))
    assert not Sampling(all_chunks=True).takes_chunk(Sampling().new_job_id(False), 0)


@pytest.mark.parametrize(
    ("sampler", "argument", "sampling"),
    [
        (None, None, Sampling(1.0, True)),
        ("always_off", None, Sampling(0.0, False)),
        ("parentbased_always_off", None, Sampling(0.0, True)),
        ("parentbased_traceidratio", "0.25", Sampling(0.25, True)),
        ("traceidratio", "7", Sampling(1.0, False)),
        ("traceidratio", "wheat", Sampling(1.0, False)),
    ],
)
def test_the_usual_variables_say_the_share(
    sampler: str | None, argument: str | None, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert Sampling.of_environment() == sampling


def test_the_id_of_a_job_is_that_of_its_trace() -> None:
    assert f"{trace_id('0192f0c1-2b3c-7def-8123-456789abcdef'):032x}" == "0192f0c12b3c7def8123456789abcdef"


@pytest.mark.parametrize(
    ("variables", "imported"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "EMBEDMILL_TRACES": "off"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"EMBEDMILL_TRACES": "otlp"}, True),
    ],
)
def test_nothing_is_imported_where_nobody_wants_traces(variables: dict[str, str], imported: bool) -> None:
    program = """
import os, sys
from storage import tracing
from storage.contract.settings import Settings
tracing.start(Settings.load(), "worker")
print(tracing.spans is not None, "opentelemetry" in sys.modules, flush=True)
os._exit(0)
"""
    ran = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, timeout=100)
    assert ran.stdout.split() == [str(imported)] * 2, ran.stderr
