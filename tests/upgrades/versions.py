"""Other versions of the program, out of the repository's history: unpacked into a folder, and run from there."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from storage.database import SCHEMA_VERSION

_ROOT = Path(__file__).parents[2]


def git(*words: str) -> bytes:
    """Return what git says; skip the test where there is no history to ask for, fail it where git says nothing."""
    if not has_history(_ROOT):
        pytest.skip("needs the history of the repository")
    told = subprocess.run(["git", "-C", str(_ROOT), *words], capture_output=True, timeout=60)
    assert told.returncode == 0 and told.stdout, f"git {' '.join(words)}: {told.stderr.decode() or 'says nothing'}"
    return told.stdout


def has_history(root: Path) -> bool:
    """Return whether a folder is a clone of the repository with all of its history; an archive is none."""
    if not (root / ".git").exists():
        return False
    asked = ["git", "-C", str(root), "rev-parse", "--is-shallow-repository"]
    return subprocess.run(asked, capture_output=True, text=True, timeout=60).stdout.strip() != "true"


def previous_schema() -> str:
    """Return the last commit whose program knew another schema than today's."""
    return git("rev-parse", f"{same_schema()}^").decode().strip()


def same_schema() -> str:
    """Return the first commit whose program knew today's."""
    introduced = git("log", "-1", "--format=%H", f"-GSCHEMA_VERSION = .{SCHEMA_VERSION}", "--", "storage/database.py")
    return introduced.decode().strip()


def checked_out(commit: str, folder: Path) -> str:
    """Unpack a commit's files; return the version of the schema that its program knows."""
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as archive:
        archive.extractall(folder, filter="data")
    found = re.search(r'^SCHEMA_VERSION = "(\d+)"', (folder / "storage" / "database.py").read_text(), re.MULTILINE)
    assert found
    return found[1]
