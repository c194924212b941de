"""What the doctor says of a service, as its client sees it."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest

from producer.api.settings import ApiSettings
from producer.remote import checkup
from storage.checkups.check import Outcome, Verdict
from storage.contract.settings import Settings
from tests.doctor.looking import amiss, findings, outcomes
from tests.faults.proxy import Proxy
from tests.service.serving import Served, serving
from tests.stack import free_port


def look(url: str, key: str | None = None) -> dict[str, Outcome]:
    return amiss(checkup.area(Settings.load(url=url, api_key=key)))


def test_all_is_well_with_a_service_that_has_a_worker(served: Served) -> None:
    found = outcomes(checkup.area(Settings.load(url=served.url)))
    assert look(served.url) == {}
    assert "of version" in found["versions"].found
    assert "serves" in found["workers"].details[0] and "storage: ready" in found["readiness"].details


def test_a_key_is_wanted_refused_or_taken(keyed: Served) -> None:
    missing = look(keyed.url)["key"]
    assert missing.verdict is Verdict.WRONG and "EMBEDMILL_API_KEY" in str(missing.remedy)
    wrong = look(keyed.url, "em_abcdefgh_" + "x" * 43)["key"]
    assert wrong.verdict is Verdict.WRONG and "Ask its operator" in str(wrong.remedy)
    _, key = keyed.service.stores.keys.create("doctor", ["read"])
    assert look(keyed.url, key) == {}


def test_a_service_without_workers_or_storage_is_told_of(tmp_path: Path) -> None:
    with serving(ApiSettings.load(data_dir=tmp_path, redis_url="redis://127.0.0.1:1")) as lonely:
        found = look(lonely.url)
    assert found["readiness"].verdict is Verdict.WRONG and "embedmill doctor" in str(found["readiness"].remedy)
    assert found["workers"].verdict is Verdict.WARNING


def test_a_key_that_others_could_read_on_the_way_is_told_of(served: Served) -> None:

    there = checkup.Service(None, "http://mill.example:8000", True)  # type: ignore[arg-type]
    told = checkup.CHECKS["safety"](there)
    assert told.verdict is Verdict.WARNING and "https://" in str(told.remedy)
    for url, has_key in (("https://mill.example", True), ("http://mill.example", False), ("http://[::1]:80", True)):
        here = checkup.Service(None, url, has_key)  # type: ignore[arg-type]
        assert checkup.CHECKS["safety"](here).verdict is Verdict.OK


@pytest.fixture
def stranger() -> Iterator[str]:
    """Address of a server that is none of ours."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>It works!</html>")

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_what_is_no_service_of_ours_is_told_of(stranger: str) -> None:
    first = findings(checkup.area(Settings.load(url=stranger)))[0].outcome
    assert first.verdict is Verdict.WRONG and "no Embedmill service" in first.found


@pytest.mark.parametrize("how", ["nobody listens", "a black hole", "no such host"])
def test_a_service_that_cannot_be_reached_holds_nobody_up(served: Served, how: str) -> None:
    proxy = Proxy(urlsplit(served.url).port or 0)
    proxy.hole()
    port = proxy.port if how == "a black hole" else free_port()
    host = "nowhere.invalid" if how == "no such host" else "127.0.0.1"
    try:
        first, *others = findings(checkup.area(Settings.load(url=f"http://{host}:{port}")), limit=3)
    finally:
        proxy.close()
    assert first.outcome.verdict is Verdict.WRONG and first.unreachable and first.outcome.remedy
    assert {other.outcome.verdict for other in others} == {Verdict.NOT_CHECKED}
