"""One running worker with the real model for all tests of the service, and the service on a port beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from producer.api.settings import ApiSettings
from tests.acceptance.shell import Shell
from tests.acceptance.shell import serving as running
from tests.service.serving import Served, serving


@pytest.fixture(scope="session")
def data_dir() -> Iterator[Path]:
    """The data folder of a running stack: embedded Redis, SQLite, one worker that serves the real model."""
    with tempfile.TemporaryDirectory(prefix="em-") as name:
        folder = Path(name)
        shell = Shell(folder / "data", folder)
        with running(shell, "up", "--port", 0, "--data-dir", folder / "data", log=folder / "log"):
            yield folder / "data"


@pytest.fixture(scope="session")
def served(data_dir: Path) -> Iterator[Served]:
    """The service over the running stack, without keys."""
    with serving(ApiSettings.load(data_dir=data_dir)) as served:
        yield served


@pytest.fixture(scope="session")
def keyed(data_dir: Path) -> Iterator[Served]:
    """The service over the running stack, with keys; `keyed.service.stores.keys` makes some."""
    with serving(ApiSettings.load(data_dir=data_dir, auth="keys")) as served:
        yield served


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    """An HTTP client of `served`."""
    with served.http() as client:
        yield client
