"""Renders the chart with the real Helm, as an installation would, and reads what came out of it strictly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.gethelm import is_packaged
from tests.needs import do_without

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "embedmill"

#: Whether the long form was asked for: `make chart-test`.
LONG = os.environ.get("CHART") == "all"

#: One object of Kubernetes.
Object = dict[str, Any]


class Refused(Exception):
    """Helm has refused the values."""


def find_helm(name: str = "helm") -> str | None:
    """Return the path of Helm: beside Python, where `make` puts it, or on the PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def need_helm(name: str = "helm") -> str:
    """Return the path of Helm; without it skip the test, or fail it in CI where it could have been fetched."""
    if found := find_helm(name):
        return found
    if not is_packaged():
        pytest.skip("Helm is not packaged for this machine")
    do_without(f"{name} is missing: make .venv/bin/{name}")


def run(*arguments: str | Path, values: Object | None = None, helm: str = "helm") -> str:
    """Run Helm and return what it prints.

    Args:
        *arguments: Its command.
        values: Given as a file of values.
        helm: Which of its programs.

    Raises:
        Refused: When it fails, with its words.
    """
    program = need_helm(helm)
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "values.yaml"
        file.write_text(json.dumps(values or {}))
        place = {f"HELM_{kind}_HOME": home for kind in ("CACHE", "CONFIG", "DATA")} | {"HOME": home}
        command = [program, *map(str, arguments), "--values", str(file)]
        done = subprocess.run(command, env=place, capture_output=True, text=True, timeout=110)
    if done.returncode:
        raise Refused(done.stderr + done.stdout)
    return done.stdout


def render(
    values: Object | None = None, release: str = "mill", *, upgrade: bool = False, helm: str = "helm"
) -> list[Object]:
    """Return every object of an installation, hooks and tests too.

    Args:
        values: What differs from the chart's own.
        release: Its name.
        upgrade: Whether it is an upgrade.
        helm: Which program.

    Raises:
        Refused: When the values are refused.
    """
    text = _rendered(json.dumps(values or {}), release, upgrade, helm)
    return [found for found in yaml.load_all(text, Loader=_Strict) if found]


@cache
def _rendered(values: str, release: str, upgrade: bool, helm: str) -> str:
    flags = ["--is-upgrade"] if upgrade else []
    return run("template", release, CHART, "--namespace", "embed", *flags, values=json.loads(values), helm=helm)


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Return those of a kind."""
    return [one for one in objects if one["kind"] == kind]


def named(objects: list[Object], kind: str, ending: str) -> Object:
    """Return the only one of a kind whose name ends so."""
    (found,) = [one for one in of_kind(objects, kind) if one["metadata"]["name"].endswith(ending)]
    return found


def pods(objects: list[Object]) -> dict[str, tuple[Object, Object]]:
    """Return the labels and the spec of every pod that these objects make, by the name of what makes it."""
    found = {}
    for one in objects:
        if one["kind"] in ("Deployment", "Job"):
            template = one["spec"]["template"]
            found[one["metadata"]["name"]] = (template["metadata"]["labels"], template["spec"])
        elif one["kind"] == "Pod":
            found[one["metadata"]["name"]] = (one["metadata"]["labels"], one["spec"])
    return found


def selected(selector: Object, made: dict[str, dict[str, str]]) -> list[str]:
    """Return the names of those pods that a selector finds.

    Args:
        selector: As policies, Deployments and budgets have it.
        made: The labels of all pods, by name.
    """
    wanted, expressions = selector.get("matchLabels", {}), selector.get("matchExpressions", [])
    assert wanted
    assert all(one["operator"] == "In" for one in expressions)
    return [
        name
        for name, labels in made.items()
        if wanted.items() <= labels.items() and all(labels.get(one["key"]) in one["values"] for one in expressions)
    ]


class _Strict(yaml.SafeLoader):
    """Refuses a key that comes twice: YAML keeps the last and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]  # type: ignore[no-untyped-call]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"{twice} comes twice in {node.start_mark}")
        return super().construct_mapping(node, deep)
