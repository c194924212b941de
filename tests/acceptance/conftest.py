"""One running stack for all acceptance tests, and folders to type commands in."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.shell import Shell, serving
from tests.models import make_model


@pytest.fixture(scope="session")
def stack() -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """`embedmill up` with the real model: its folder, with `data/` and `log` in it, and its process."""
    with tempfile.TemporaryDirectory(prefix="em-") as name:
        folder = Path(name)
        shell = Shell(folder / "data", folder)
        with serving(shell, "up", "--port", 0, "--data-dir", folder / "data", log=folder / "log") as process:
            yield folder, process


@pytest.fixture
def shell(stack: tuple[Path, subprocess.Popen[bytes]], tmp_path: Path) -> Shell:
    """A shell beside the running stack, in an empty folder."""
    return Shell(stack[0] / "data", tmp_path)


@pytest.fixture
def alone(tmp_path: Path) -> Shell:
    """A shell in an empty folder, on a data folder of its own where nothing runs."""
    return Shell(tmp_path / "data", tmp_path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model folder with random weights, 64 wide; read-only."""
    return make_model(tmp_path_factory.mktemp("tiny"), "bert", hidden=64, layers=2)
