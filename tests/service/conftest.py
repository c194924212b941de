"""One running worker with the real model for all tests of the service, and the service on a port beside it."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from embedmill import Client
from producer.api.settings import ApiSettings
from producer.remote.client import HttpClient
from tests.faults.proxy import Proxy
from tests.service.serving import Served, serving

#: Nobody is asked for figures, prices or versions, and nobody is told of what is done here.
_QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "NO_PROXY": "127.0.0.1",
}


@pytest.fixture(scope="session")
def data_dir(stack: tuple[Path, subprocess.Popen[bytes]]) -> Path:
    """The data folder of the running stack: embedded Redis, SQLite, one worker that serves the real model."""
    return stack[0] / "data"


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


@pytest.fixture(scope="module")
def clients(data_dir: Path, served: Served) -> Iterator[dict[str, Client]]:
    """One client of either kind, of the same stack."""
    with Client(data_dir=data_dir) as over_storage, Client(served.url) as over_http:
        yield {"storage": over_storage, "http": over_http}


@pytest.fixture(params=["storage", "http"])
def client(request: pytest.FixtureRequest, clients: dict[str, Client]) -> Client:
    """A client of either kind."""
    return clients[request.param]


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    """An HTTP client of `served`."""
    with served.http() as client:
        yield client


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep clients by others off the network, and from keys that lie about in this machine's environment."""
    from huggingface_hub import constants

    for name, value in _QUIET.items():
        monkeypatch.setenv(name, value)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # Offline, the hub's client takes a local address for the hub's.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield
    # What they hold is let go of here, and not in somebody else's test.
    gc.collect()


@pytest.fixture
def proxy(served: Served) -> Iterator[Proxy]:
    """Stands between client and service."""
    proxy = Proxy(urlsplit(served.url).port or 0)
    yield proxy
    proxy.close()


@pytest.fixture
def http_client(proxy: Proxy) -> Iterator[HttpClient]:
    """A client that reaches the service through `proxy`."""
    with Client(f"http://127.0.0.1:{proxy.port}", retry_for=60) as client:
        yield client
