"""What KEDA asks Prometheus, evaluated by Prometheus' own program."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.chart.cases import CASES
from tests.chart.rendering import named, render
from tests.needs import need_program

_MODEL = "BAAI/bge-base-en-v1.5"
_OURS = 'namespace="embed"'

#: What Prometheus has, and what KEDA is told of it: a figure, or None where there is none and all stays as it is.
_SEEN: dict[str, tuple[dict[str, float], float | None]] = {
    "nothing was scraped": ({}, None),
    "another installation alone": ({'embedmill_reconciler_leads{namespace="other"}': 1}, None),
    "a model that nobody has served": (
        {
            f"embedmill_reconciler_leads{{{_OURS}}}": 0,
            f'embedmill_workers{{model="mill/other",precision="half",{_OURS}}}': 2,
        },
        1,
    ),
    "a precision that nobody has served": (
        {
            f"embedmill_reconciler_leads{{{_OURS}}}": 1,
            f'embedmill_workers{{model="{_MODEL}",precision="float32",{_OURS}}}': 2,
            f'embedmill_backlog_tokens{{model="{_MODEL}",priority="bulk",{_OURS}}}': 0,
        },
        1,
    ),
    "one that nobody serves now, and nothing waits": (
        {
            f"embedmill_reconciler_leads{{{_OURS}}}": 1,
            f'embedmill_workers{{model="{_MODEL}",precision="half",{_OURS}}}': 0,
            f'embedmill_backlog_tokens{{model="{_MODEL}",priority="bulk",{_OURS}}}': 0,
        },
        0,
    ),
    "work of both priorities, told by two replicas": (
        {
            f'embedmill_reconciler_leads{{{_OURS},instance="a"}}': 1,
            f'embedmill_workers{{model="{_MODEL}",precision="half",{_OURS},instance="a"}}': 2,
            f'embedmill_backlog_tokens{{model="{_MODEL}",priority="bulk",{_OURS},instance="a"}}': 100,
            f'embedmill_backlog_tokens{{model="{_MODEL}",priority="bulk",{_OURS},instance="b"}}': 90,
            f'embedmill_backlog_tokens{{model="{_MODEL}",priority="urgent",{_OURS},instance="a"}}': 7,
        },
        107,
    ),
}


@pytest.mark.parametrize("seen", _SEEN)
def test_keda_is_told_by_prometheus_how_much_waits(seen: str, tmp_path: Path) -> None:
    # Given the question of a group's autoscaler, and what Prometheus has scraped
    (trigger,) = named(render(CASES["scaled by Prometheus"]), "ScaledObject", "bge-h100")["spec"]["triggers"]
    series, figure = _SEEN[seen]
    found = [] if figure is None else [{"labels": "{}", "value": figure}]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": f"{value}x3"} for name, value in series.items()],
        "promql_expr_test": [{"expr": trigger["metadata"]["query"], "eval_time": "2m", "exp_samples": found}],
    }
    file = tmp_path / "keda.yml"
    file.write_text(json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": [test]}))
    # When it is evaluated, then it is one figure, or none
    command = [need_program("promtool", package="prometheus"), "test", "rules", file.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_group_of_any_precision_asks_for_any() -> None:
    keda = CASES["scaled by Prometheus"]["keda"] | {"prometheus": {"serverAddress": "http://prometheus:9090"}}
    objects = render({"workers": [{"name": "cpu", "model": "mill/rye", "scaling": {"enabled": True}}], "keda": keda})
    (trigger,) = named(objects, "ScaledObject", "-cpu")["spec"]["triggers"]
    assert trigger["metadata"]["query"] == (
        'sum(max by (priority) (embedmill_backlog_tokens{model="mill/rye"})) > 0'
        ' or (max(embedmill_workers{model="mill/rye"}) >= bool 0) - 1'
        " or max(embedmill_reconciler_leads{}) >= bool 0"
    )
