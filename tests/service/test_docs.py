"""`docs/api.md` is true: every block of code on it is run against a running stack, and answers look as shown."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.service.serving import Served
from tests.service.typedpage import Block, blocks, here, typed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"

BLOCKS = blocks(PAGE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page's commands are typed in."""
    return tmp_path_factory.mktemp("docs")


def test_the_commands_do_what_the_page_says(served: Served, data_dir: Path, folder: Path) -> None:
    # Given the page's commands, in order
    commands = [block for block in BLOCKS if block.is_typed]
    # When a person types them, then all of them succeed
    told = typed(commands, served.url, data_dir, folder, timeout=90)
    # And what is shown as an answer is what was answered
    shown = 0
    for block, following in itertools.pairwise(BLOCKS):
        if block.is_typed and following.language == "json":
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
        exec(compile(here(block.code, served.url), f"{PAGE.name}:{block.line}", "exec"), {})
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
