"""`docs/operations.md` is true: its commands run, its arithmetic comes out as printed, Helm takes its fleet."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import find_helm, of_kind, pods, render
from tests.service.serving import Served
from tests.service.typedpage import blocks, typed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


@pytest.mark.timeout(300)
def test_the_commands_do_what_the_page_says(served: Served, data_dir: Path, tmp_path: Path) -> None:
    # Given the page's commands that need nothing but this machine, in order
    commands = [block for block in blocks(PAGE) if block.is_typed]
    assert len(commands) >= 4
    # When an operator types them, then all of them succeed, and what is shown as printed was printed
    told = typed(commands, served.url, data_dir, tmp_path, timeout=200)
    shown = [
        (told[block.line], following.code)
        for block, following in itertools.pairwise(blocks(PAGE))
        if block.is_typed and following.language == "text"
    ]
    assert shown and all(printed == expected for printed, expected in shown)


@pytest.mark.skipif(find_helm() is None, reason="needs Helm")
def test_the_fleet_of_the_page_is_one_that_the_chart_takes() -> None:
    (values,) = [yaml.safe_load(block.code) for block in blocks(PAGE) if block.language == "yaml"]
    objects = render(values)
    assert {"mill-embedmill-worker-minilm", "mill-embedmill-worker-bge"} <= set(pods(objects))
    assert len(of_kind(objects, "Ingress")) == 1
    # The Secret that the page makes has every entry that pods ask for
    made = "".join(block.code for block in blocks(PAGE) if "create secret generic" in block.code)
    for _, pod in pods(objects).values():
        for variable in pod["containers"][0].get("env", []):
            if "valueFrom" in variable:
                assert f"--from-literal={variable['valueFrom']['secretKeyRef']['key']}=" in made


def test_the_page_says_why_a_block_is_not_run() -> None:
    text = PAGE.read_text(encoding="utf-8")
    left_out = [block for block in blocks(PAGE) if block.language == "sh" and not block.run]
    assert len(left_out) == text.count("<!-- not run: ")
