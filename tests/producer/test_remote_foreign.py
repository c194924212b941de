"""What is asked of a place where something else answers, and where the environment names what cannot be used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from producer.remote.client import HttpClient
from producer.remote.connection import Connection
from producer.remote.job import HttpJob
from producer.remote.overview import HttpOverviews
from storage.contract.errors import InvalidOption, ServiceUnavailable
from storage.contract.ids import new_id
from storage.contract.settings import Settings

JOB = new_id()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy stands between, and no certificates are named."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def _answering(body: bytes) -> Iterator[tuple[str, list[str]]]:
    """Give the address of a server that answers everything with 200 and this body, and the paths it is asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def _job(url: str) -> HttpJob:
    return HttpJob(JOB, Connection(url, None, retry_for=0))


_ASKED: dict[str, Callable[[str], object]] = {
    "jobs": lambda url: HttpClient(url).jobs(),
    "job": lambda url: HttpClient(url).job(JOB),
    "submit": lambda url: HttpClient(url).submit(["a text"]),
    "submit in parts": lambda url: HttpClient(url).submit(["a text" * 100_000] * 3),
    "status": lambda url: _job(url).status(),
    "wait": lambda url: _job(url).wait(1),
    "results": lambda url: list(_job(url).results()),
    "errors": lambda url: _job(url).errors(),
    "vectors": lambda url: _job(url).vectors(),
    "retry": lambda url: _job(url).retry_failed(),
    "cancel": lambda url: _job(url).cancel(),
    "top": lambda url: HttpOverviews(Settings.load(url=url)).look(5),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("what", _ASKED)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>Sign in, please.</html>", id="a login page"),
        pytest.param(b'{"status": "ok"}', id="other JSON"),
        pytest.param(b'{"data": "none", "next": null, "id": 7, "state": null, "models": {}}', id="other types"),
        pytest.param(b'{"data": [7], "next": null}', id="no objects"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_an_answer_that_is_not_embedmills_is_told_as_such(what: str, body: bytes) -> None:
    with _answering(body) as (url, _), pytest.raises(ServiceUnavailable) as caught:
        _ASKED[what](url)
    # Then it is said who answered, and what to do, and nothing of what was answered
    assert caught.value.message == f"{url} answered 200 and not in the words of an Embedmill service."
    assert str(caught.value.remedy).startswith("Look whether the address is right")
    assert "Sign in" not in str(caught.value)


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/", "/mill", "/mill/v1"])
def test_the_version_at_the_end_of_an_address_is_not_asked_for_twice(end: str) -> None:
    with _answering(b'{"data": [], "next": null}') as (url, asked), HttpClient(url + end) as client:
        assert client.jobs() == []
    assert [path.partition("?")[0] for path in asked] == ["/mill/v1/jobs" if "mill" in end else "/v1/jobs"]


def test_a_host_of_that_name_is_one() -> None:
    assert Connection("http://v1", None, 0).url == "http://v1"


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    file = tmp_path / "authority.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    for url in ("http://mill", "https://mill"):
        with pytest.raises(InvalidOption, match=r"SSL_CERT_FILE .*cannot be read\. .*PEM"):
            HttpClient(url)


@pytest.mark.parametrize(
    ("proxy", "told"), [("socks5://127.0.0.1:1080", r"httpx\[socks\]"), ("gopher://proxy:70", "is no address")]
)
def test_a_proxy_that_cannot_be_used_is_told_as_such(monkeypatch: pytest.MonkeyPatch, proxy: str, told: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(InvalidOption, match=told):
        HttpClient("http://mill")
