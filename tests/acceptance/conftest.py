"""Folders to type commands in, beside the running stack and without one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.acceptance.shell import Shell
from tests.models import make_model


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
