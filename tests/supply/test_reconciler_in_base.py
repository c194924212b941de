"""The image without torch runs a reconciler, as the chart has it do: with no package that its lock does not hold."""

from __future__ import annotations

import time
from importlib.metadata import packages_distributions
from pathlib import Path

import httpx
import pytest
from packaging.utils import canonicalize_name

from deploy.lock import LOCKS, entries, name_of
from tests.stack import free_port, running, wait_until_ready

#: Has an interpreter refuse packages, from its start on.
_WITHOUT = """
import sys
from importlib.abc import MetaPathFinder
class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def absent() -> set[str]:
    """The modules of all packages that are installed here and not in the image."""
    held = {canonicalize_name(name_of(entry)) for entry in entries((LOCKS / "base.txt").read_text())} | {"embedmill"}
    found = {
        module
        for module, packages in packages_distributions().items()
        if not held & {canonicalize_name(package) for package in packages}
    }
    assert {"torch", "transformers", "psutil"} <= found and "celery" not in found
    return found


def test_it_runs_and_answers_its_watchers_there(absent: set[str], tmp_path: Path) -> None:
    # Given an interpreter that has the image's packages alone
    (tmp_path / "sitecustomize.py").write_text(_WITHOUT.format(absent=absent))
    port, log = free_port(), tmp_path / "log"
    told = {"PYTHONPATH": str(tmp_path), "EMBEDMILL_DATA_DIR": str(tmp_path / "data")}
    # When a reconciler runs in it, then it is ready and tells its figures
    with running(["reconcile", "--health-port", str(port)], told, log) as process:
        wait_until_ready(process, port, log)
        deadline = time.monotonic() + 60
        while "this reconciler leads" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "this reconciler leads" in log.read_text()
        figures = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=60).text
    assert "embedmill_reconciler" in figures and "embedmill_process_memory_bytes{" not in figures
    # And it ends in order
    assert process.returncode == 0, log.read_text()
