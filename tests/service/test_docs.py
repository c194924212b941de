"""`docs/api.md` is true: every block of code on it is run against a running stack, and answers look as shown."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.service.serving import Served

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"

#: Where the page says that the service is.
_URL = "http://127.0.0.1:8000"

_MARK = "--- block"


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code on the page.

    Args:
        line: Where its code begins.
        language: `sh`, `python` or `json`.
        code: What it holds.
        run: Whether it is run.
    """

    line: int
    language: str
    code: str
    run: bool


def blocks(page: Path = PAGE) -> list[Block]:
    """Return the blocks of a page in order."""
    found = []
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"(<!-- not run: .*? -->\n)?^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start(3)) + 1
        found.append(Block(line, match[2], match[3], match[1] is None))
    return found


BLOCKS = blocks()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page's commands are typed in."""
    return tmp_path_factory.mktemp("docs")


def test_the_commands_do_what_the_page_says(served: Served, data_dir: Path, folder: Path) -> None:
    # Given the page's commands, in order
    commands = [block for block in BLOCKS if block.language == "sh" and block.run]
    script = "set -eu -o pipefail\n" + "".join(
        f"echo '{_MARK}' {block.line}\n{block.code.replace(_URL, served.url)}\n" for block in commands
    )
    # When a person types them
    bin_folder = str(Path(sys.executable).parent)
    place = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "EMBEDMILL_DATA_DIR": str(data_dir), "NO_PROXY": "*"}
    ran = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=os.environ | place, capture_output=True, text=True, timeout=90
    )
    # Then all of them succeed
    assert ran.returncode == 0, f"{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
    # And what is shown as an answer is what was answered
    told = {int(part.partition("\n")[0]): part.partition("\n")[2] for part in ran.stdout.split(f"{_MARK} ")[1:]}
    shown = 0
    for block, following in itertools.pairwise(BLOCKS):
        if block.language == "sh" and block.run and following.language == "json":
            answer = json.loads(told[block.line].splitlines()[-1])
            looks_like(json.loads(following.code), answer, f"line {following.line}")
            shown += 1
    assert shown >= 5


def looks_like(shown: Any, answer: Any, where: str) -> None:
    """Check that an answer has every field that is shown, and no other, each of its kind; null stands for anything."""
    if shown is None or answer is None:
        return
    assert isinstance(answer, type(shown)) or {type(shown), type(answer)} <= {int, float}, where
    if isinstance(shown, dict):
        assert set(shown) == set(answer), where
        for name, value in shown.items():
            looks_like(value, answer[name], f"{where}, {name}")
    elif isinstance(shown, list) and shown:
        assert answer, where
        looks_like(shown[0], answer[0], where)


def test_text_to_ids_is_as_shown_to_the_letter(served: Served) -> None:
    # Given the example whose answer depends on nothing but the tokenizer
    (shown,) = (json.loads(block.code) for block in BLOCKS if '"pieces"' in block.code and block.language == "json")
    (asked,) = re.findall(r"-d '(\{.*?max_length.*?\})'", PAGE.read_text(encoding="utf-8"))
    # When asked, then the answer is that
    with served.http() as http:
        assert http.post("/v1/tokens", json=json.loads(asked)).json() == shown


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize(
    "block", [pytest.param(b, id=f"line {b.line}") for b in BLOCKS if b.language == "python" and b.run]
)
def test_the_programs_print_what_the_page_says(
    block: Block, served: Served, folder: Path, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a program, and what the page says that it prints
    monkeypatch.chdir(folder)
    expected = re.findall(r"^ *print\(.*\)  # (.*)$", block.code, re.MULTILINE)
    assert expected
    # When it is run
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.code.replace(_URL, served.url), f"{PAGE.name}:{block.line}", "exec"), {})
    # Then it prints that
    assert printed.getvalue().splitlines() == expected


def test_every_route_named_on_the_page_is_there(served: Served) -> None:
    # Given every path of ours that the page names
    with served.http() as http:
        document = http.get("/openapi.json").json()
    known = {re.sub(r"\{[^}]*\}", "{}", path) for path in document["paths"]} | {"/openapi.json", "/docs"}
    named = re.findall(r"`(?:GET |POST |PUT |DELETE )?(/[a-z0-9_./{}]*)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 10
    # Then the service has it
    assert {re.sub(r"\{[^}]*\}", "{}", path) for path in named} - known == set()
