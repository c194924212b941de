"""Alert rules and dashboard: they ask for what there is, and each alert says what to do."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.needs import need_program
from tests.service.metricrules import DOCS, documented

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"

#: What Prometheus itself hangs on every series, its operator too, and `le` on a histogram's classes.
_ALWAYS = {"job", "instance", "namespace", "le"}

_SERIES = re.compile(r"\b((?:embedmill|process)_\w+)(?:\{([^}]*)\})?")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboards" / "embedmill.json").read_text())
    return board


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def unknown(expression: str) -> Iterator[str]:
    """Yield what an expression asks for that `/metrics` has not, by the tables that a test holds equal to it."""
    known, labels = documented(), set(_ALWAYS)
    for name, selector in _SERIES.findall(expression):
        metric = known.get(name) or known.get(re.sub(r"_(bucket|sum|count)$", "", name))
        if metric is None or (metric.name == name) != (metric.kind != "histogram"):
            yield name
            continue
        labels |= metric.labels
        yield from set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) - metric.labels - _ALWAYS
    for grouped in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        yield from set(re.findall(r"\w+", grouped)) - labels


def test_rules_and_dashboard_ask_for_what_there_is() -> None:
    all_ = {rule["alert"]: rule["expr"] for rule in rules()}
    all_ |= {f"{panel['title']}: {t['refId']}": t["expr"] for panel in panels() for t in panel["targets"]}
    assert len(all_) > 60
    assert {name: list(unknown(expression)) for name, expression in all_.items() if list(unknown(expression))} == {}
    # And the check sees what is not there
    assert list(unknown("rate(embedmill_wheat_total[5m])")) == ["embedmill_wheat_total"]
    assert list(unknown('sum by (model) (embedmill_workers{sack="1"})')) == ["sack"]
    assert list(unknown("sum by (sack) (embedmill_workers)")) == ["sack"]
    assert list(unknown("embedmill_stage_seconds")) == ["embedmill_stage_seconds"]


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    headings = {line[4:].lower() for line in DOCS.read_text().splitlines() if line.startswith("### ")}
    for rule in rules():
        told, file, anchor = rule["annotations"], *rule["annotations"]["runbook"].split("#")
        assert file == "docs/observability.md" and anchor == rule["alert"].lower() and anchor in headings, rule["alert"]
        assert told["summary"] and rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
    # And no advice is left of an alert that is no more
    alerts = {rule["alert"].lower() for rule in rules()}
    assert {heading for heading in headings if heading.startswith("embedmill")} == alerts


def test_every_alert_is_tried() -> None:
    tests = yaml.safe_load((DEPLOY / "prometheus" / "alerts_test.yml").read_text())["tests"]
    tried = [case for test in tests for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in tried if case["exp_alerts"]} == {rule["alert"] for rule in rules()}


def test_panels_lie_side_by_side_and_have_names_of_their_own() -> None:
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


def lost(given: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Yield the places in a document that another one lacks, or has otherwise."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            yield from lost(value, kept[key], f"{path}/{key}") if key in kept else [f"{path}/{key}"]
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for number, pair in enumerate(zip(given, kept, strict=True)):
            yield from lost(*pair, f"{path}/{number}")
    elif given != kept:
        yield path


def as_grafana_reads(board: dict[str, Any]) -> Any:
    """Return a dashboard as Grafana's own types understand it: what they do not know is left out."""
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(board)))


def test_grafana_s_own_types_know_all_of_the_dashboard() -> None:
    board = dashboard()
    assert list(lost(board, as_grafana_reads(board))) == []
    known = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
    asked = {panel["fieldConfig"]["defaults"]["unit"] for panel in panels()}
    assert asked and asked <= known
    # And the check sees what Grafana does not know: an option of a panel, of a series and of a query
    panel = board["panels"][1]
    panel["options"]["wheat"] = panel["fieldConfig"]["defaults"]["rye"] = panel["targets"][0]["oats"] = 1
    assert {path.rpartition("/")[2] for path in lost(board, as_grafana_reads(board))} == {"wheat", "rye", "oats"}


def asked(panel: dict[str, Any]) -> list[str]:
    """Return what a panel asks, where all namespaces and models are chosen."""
    chosen = {"$__rate_interval": "1m", "$model": ".*", "$namespace": ".*"}
    return [
        re.sub("|".join(map(re.escape, chosen)), lambda found: chosen[found[0]], t["expr"]) for t in panel["targets"]
    ]


def test_installations_and_machines_seen_together_hide_none_of_each_other(tmp_path: Path) -> None:
    # Given a large installation whose two services tell the same, a small one, and machines whose slots have one name
    large, small = 'namespace="large"', 'namespace="small"'
    of_both = {
        f'embedmill_texts_embedded_total{{{large}, instance="a"}}': "0+600x10",
        f'embedmill_texts_embedded_total{{{large}, instance="b"}}': "0+600x10",
        f"embedmill_texts_embedded_total{{{small}}}": "0+60x10",
        f'embedmill_backlog_tokens{{{large}, model="stone", priority="bulk", instance="a"}}': "500x10",
        f'embedmill_backlog_tokens{{{large}, model="stone", priority="bulk", instance="b"}}': "500x10",
        f'embedmill_backlog_tokens{{{small}, model="stone", priority="bulk"}}': "70x10",
        f"embedmill_reconciler_leads{{{large}}}": "1x10",
        f"embedmill_reconciler_leads{{{small}}}": "0x10",
        f'embedmill_batch_tokens_total{{{large}, instance="m", slot="cuda:0", model="stone"}}': "0+600x10",
        f'embedmill_batches_total{{{large}, instance="m", slot="cuda:0", model="stone"}}': "0+60x10",
        f'embedmill_batch_tokens_total{{{small}, instance="n", slot="cuda:0", model="stone"}}': "0+600x10",
        f'embedmill_batches_total{{{small}, instance="n", slot="cuda:0", model="stone"}}': "0+600x10",
    }
    # When the dashboard asks for all of them
    wanted = {
        "Texts embedded": {"{}": 11.0},
        "Backlog in tokens": {'{model="stone", priority="bulk"}': 570.0},
        "A reconciler leads": {"{}": 0.0},
        "Tokens a batch": {'{instance="m", slot="cuda:0"}': 10.0, '{instance="n", slot="cuda:0"}': 1.0},
    }
    panel_of = {panel["title"]: panel for panel in panels()}
    cases = [
        {
            "expr": asked(panel_of[title])[0],
            "eval_time": "5m",
            "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
        }
        for title, samples in wanted.items()
    ]
    series = [{"series": name, "values": values} for name, values in of_both.items()]
    file = tmp_path / "board.yml"
    test = {"interval": "1m", "input_series": series, "promql_expr_test": cases}
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [test]}))
    command = [need_program("promtool", package="prometheus"), "test", "rules", str(file)]
    tried = subprocess.run(command, capture_output=True, text=True, timeout=200)
    # Then installations are added up, their services are not, and each machine is told of
    assert tried.returncode == 0, tried.stdout + tried.stderr
    # And nowhere is one installation's figure taken for all: the largest is right of ages alone
    ages = ("oldest_waiting_seconds", "oldest_due_seconds", "database_latency_seconds")
    assert not [
        expression
        for panel in panels()
        for expression in asked(panel)
        if re.match(r"max\b(?! by \(namespace)", expression) and not any(age in expression for age in ages)
    ]


def test_what_the_dashboard_asks_can_be_asked(tmp_path: Path) -> None:
    expressions = [expression for panel in panels() for expression in asked(panel)]
    rules = [{"record": f"asked:{number}", "expr": expression} for number, expression in enumerate(expressions)]
    file = tmp_path / "asked.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    command = [need_program("promtool", package="prometheus"), "check", "rules", str(file)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert checked.returncode == 0 and f"{len(expressions)} rules found" in checked.stdout, (
        checked.stdout + checked.stderr
    )


def test_alerts_fire_where_they_should_and_nowhere_else() -> None:
    command = [need_program("promtool", package="prometheus"), "test", "rules", "alerts_test.yml"]
    tried = subprocess.run(command, cwd=RULES.parent, capture_output=True, text=True, timeout=200)
    assert tried.returncode == 0, tried.stdout + tried.stderr
