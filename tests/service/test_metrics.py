"""`/metrics` of a running stack: its form, its rules, and that the documentation tells of exactly what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from storage import exposition
from tests.acceptance.shell import address, until
from tests.needs import need_program
from tests.service.metricrules import broken_rules, documented, told
from tests.worker.fakenvml import FakeNvml
from worker.gpus import Gpus


@pytest.fixture
def metrics(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """All that a stack tells once it has worked, and what it would tell of GPUs."""
    with httpx.Client(base_url=address(data_dir.parent / "log"), timeout=60) as http:
        texts = [f"stone {number} grinds wheat" for number in range(40)]
        assert http.post("/v1/jobs", json={"texts": texts}).status_code == 202
        until(lambda: 'stage="write"' in http.get("/metrics").text, "a job's stages to be told", 60)
        found = http.get("/metrics").text
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml("Millstone 9"))
    return found + exposition.text(Gpus(["GPU-0"]).figures).decode()


def test_every_metric_keeps_to_the_rules(metrics: str) -> None:
    assert not list(broken_rules(metrics))


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ("# HELP embedmill_wheat Sacks\n# TYPE embedmill_wheat counter\nembedmill_wheat 1\n", "end in _total"),
        ("# TYPE embedmill_wheat gauge\nembedmill_wheat 1\n", "says nothing"),
        ("# HELP embedmill_wait_ms Wait\n# TYPE embedmill_wait_ms gauge\nembedmill_wait_ms 1\n", "base units"),
        ('# HELP embedmill_wheat Sacks\n# TYPE embedmill_wheat gauge\nembedmill_wheat{job="1"} 1\n', "has labels"),
        ("# HELP wheat Sacks\n# TYPE wheat gauge\nwheat 1\n", "no name of ours"),
    ],
)
def test_a_metric_that_breaks_a_rule_is_found(told: str, wrong: str) -> None:
    assert any(wrong in broken for broken in broken_rules(told))


def test_prometheus_own_tool_finds_nothing_wrong(metrics: str) -> None:
    promtool = need_program("promtool", package="prometheus")
    checked = subprocess.run([promtool, "check", "metrics"], input=metrics, capture_output=True, text=True, timeout=60)
    # What Python's client tells of its process is named as everywhere.
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_documentation_tells_of_exactly_what_is_there(metrics: str) -> None:
    # Given all metrics of a running stack, when compared with the tables of the documentation
    there, written = told(metrics), documented()
    # Then they are the same, in name, kind and labels
    assert there.keys() - written.keys() == set(), "not documented"
    assert written.keys() - there.keys() == set(), "documented and not there"
    assert {name: metric for name, metric in there.items() if metric != written[name]} == {}
