"""`docs/data.md` is true: its commands are typed into one shell, on SQLite and on a PostgreSQL with pgvector."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.main import get_command

from embedmill import cli
from tests.servers import PostgresServer
from tests.service.serving import Served
from tests.service.typedpage import Block, blocks, typed
from tests.storage.forms import full

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"

#: Where the page says that the embedded database is.
_FILE = "/home/me/.local/share/embedmill/embedmill.sqlite3"


@pytest.fixture
def server(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """A PostgreSQL on which the page's databases can be made; they are removed in the end."""
    yield postgres_server
    for name in ("mill", "restored", "search"):
        postgres_server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def here(block: Block, data_dir: Path, server: PostgresServer) -> Block:
    """Return a block about the databases of a test."""
    code = block.code.replace(_FILE, str(data_dir / "embedmill.sqlite3"))
    return replace(block, code=re.sub(r"postgresql://user@host/(\w+)", lambda name: server.url(name[1]), code))


@full
@pytest.mark.timeout(1200)
def test_the_commands_do_what_the_page_says(
    served: Served, data_dir: Path, tmp_path: Path, server: PostgresServer
) -> None:
    # Given the page's commands but those that stop a server, in order
    commands = [here(block, data_dir, server) for block in blocks(PAGE) if block.is_typed]
    # When an operator types them, then all of them succeed
    path = f"{server.binaries}:{os.environ['PATH']}"
    told = typed(commands, served.url, data_dir, tmp_path, timeout=1000, environment={"PATH": path})
    # And the job that was deleted came back with its archive, is in the copies, and its vectors are read by SQL
    (job,) = set(re.findall(r"[0-9a-f-]{36}", next(told[block.line] for block in commands if "sort -rn" in block.code)))
    for sign, shown in (("--data-dir restored", job), ("item_vectors", "(3 rows)"), ("<=>", "(3 rows)")):
        (block,) = [block for block in commands if sign in block.code]
        assert shown in told[block.line], told[block.line]


def test_every_command_of_the_page_is_one_with_these_options() -> None:
    # Given the page's commands, also those that are run in the long form alone
    code = "".join(block.code for block in blocks(PAGE) if block.language == "sh").replace("\\\n", " ")
    lines = re.findall(r"\bembedmill ([^|\n);]*)", code)
    named = {line.split()[0] for line in lines}
    assert {"export", "import", "move", "migrate", "backup", "fence", "publish", "delete"} <= named
    # When each is looked up, then it is there, and so is every option
    for line in lines:
        command, *words = shlex.split(line)
        found = get_command(cli._app()).commands[command]  # type: ignore[attr-defined]
        if words and words[0] in getattr(found, "commands", {}):
            found = found.commands[words[0]]
        options = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-") and word != "-"} <= options, line


def test_the_page_says_why_a_block_is_not_run() -> None:
    left_out = [block for block in blocks(PAGE) if block.language == "sh" and not block.run]
    assert len(left_out) == 3 == PAGE.read_text(encoding="utf-8").count("<!-- not run: ")
