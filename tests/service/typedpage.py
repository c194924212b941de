"""A page of the documentation, block by block, and a shell that types its commands in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Where pages say that the service is.
_URL = "http://127.0.0.1:8000"

_MARK = "--- block"


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code on a page.

    Args:
        line: Where its code begins.
        language: `sh`, `python`, `json`, `text` or `yaml`.
        code: What it holds.
        run: Whether it is run.
    """

    line: int
    language: str
    code: str
    run: bool

    @property
    def is_typed(self) -> bool:
        """Whether it is a command that is run."""
        return self.language == "sh" and self.run


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order."""
    found = []
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"(<!-- not run: .*? -->\n)?^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start(3)) + 1
        found.append(Block(line, match[2], match[3], match[1] is None))
    return found


def here(code: str, url: str) -> str:
    """Return code of a page, about the service of a test."""
    return code.replace(_URL, url)


def typed(
    commands: Iterable[Block],
    url: str,
    data_dir: Path,
    folder: Path,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    **who: Any,
) -> dict[int, str]:
    """Type commands in, one after the other, in one shell; fails where one of them does.

    Args:
        commands: Blocks of commands, in order.
        url: Where the service is.
        data_dir: Its data folder.
        folder: Where one stands.
        timeout: Longest time for all of them, in seconds.
        environment: More variables; `PATH` is searched behind the program's own folder.
        **who: As whom: arguments of `subprocess.run`.

    Returns:
        What was printed, by the line that a block begins at.
    """
    script = "set -eu -o pipefail\n" + "".join(
        f"echo '{_MARK}' {block.line}\n{here(block.code, url)}\n" for block in commands
    )
    bin_folder = str(Path(sys.executable).parent)
    variables = os.environ | (environment or {})
    place = {"PATH": f"{bin_folder}:{variables['PATH']}", "EMBEDMILL_DATA_DIR": str(data_dir), "NO_PROXY": "*"}
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=variables | place,
        capture_output=True,
        text=True,
        timeout=timeout,
        **who,
    )
    assert ran.returncode == 0, f"{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
    return {int(part.partition("\n")[0]): part.partition("\n")[2] for part in ran.stdout.split(f"{_MARK} ")[1:]}
