"""`docs/operations.md` is true: its commands run, its arithmetic comes out as printed, Helm takes its fleet."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import find_helm, of_kind, pods, render
from tests.service.serving import Served
from tests.service.test_docs import _MARK, _URL, blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


@pytest.mark.timeout(300)
def test_the_commands_do_what_the_page_says(served: Served, data_dir: Path, tmp_path: Path) -> None:
    # Given the page's commands that need nothing but this machine, in order
    commands = [block for block in blocks(PAGE) if block.language == "sh" and block.run]
    assert len(commands) >= 4
    script = "set -eu -o pipefail\n" + "".join(
        f"echo '{_MARK}' {block.line}\n{block.code.replace(_URL, served.url)}\n" for block in commands
    )
    # When an operator types them
    bin_folder = str(Path(sys.executable).parent)
    place = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "EMBEDMILL_DATA_DIR": str(data_dir), "NO_PROXY": "*"}
    ran = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=os.environ | place, capture_output=True, text=True, timeout=200
    )
    # Then all of them succeed, and what is shown as printed was printed
    assert ran.returncode == 0, f"{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
    told = {int(part.partition("\n")[0]): part.partition("\n")[2] for part in ran.stdout.split(f"{_MARK} ")[1:]}
    shown = [
        (told[block.line], following.code)
        for block, following in itertools.pairwise(blocks(PAGE))
        if block.language == "sh" and block.run and following.language == "text"
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
