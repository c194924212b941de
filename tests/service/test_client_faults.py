"""What a client over HTTP does when connections are cut, the service is restarted, or its key is wrong."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedmill import Client
from producer.client import Client as StorageClient
from producer.remote.client import HttpClient
from storage.contract import errors
from storage.contract.settings import Settings
from storage.quotas import Quota
from tests.faults.proxy import Proxy
from tests.service.serving import Served
from tests.service.submitted import MANY, WAITS, kept


@pytest.mark.parametrize("fault", ["reply", "request"])
def test_a_small_submission_whose_connection_is_cut_makes_one_job(
    served: Served, proxy: Proxy, http_client: HttpClient, fault: str
) -> None:
    with kept(served, http_client, MANY[:3]) as made:
        # Given a network that loses the submission, or its answer
        drop = proxy.drop_reply if fault == "reply" else proxy.drop_request
        drop(b"POST /v1/jobs ")
        # When a job is submitted without any key
        made.append(http_client.submit(MANY[:3], **WAITS).id)
        # Then there is one
        assert proxy.dropped.is_set()


def test_a_cut_download_goes_on_where_it_was(proxy: Proxy, http_client: HttpClient) -> None:
    # Given 300 vectors, 460 kB
    job = http_client.submit([f"Sack {i}" for i in range(300)])
    job.wait(90)
    whole = job.vectors()
    # When the connection is cut after 200 kB of them have come
    proxy.cut_after(200_000)
    again = job.vectors()
    # Then they are all there
    assert proxy.dropped.is_set()
    assert np.array_equal(whole, again) and whole.shape == (300, 384)


def test_a_wait_survives_cut_connections(proxy: Proxy, http_client: HttpClient) -> None:
    # Given somebody who waits for a job
    job = http_client.submit(MANY[:1], **WAITS)
    ended: list[str] = []
    begun = threading.Event()
    wait = threading.Thread(target=lambda: ended.append(job.wait(100, lambda status: begun.set()).state))
    wait.start()
    # When all connections are cut, and then the job ends
    assert begun.wait(60)
    proxy.reset()
    job.cancel()
    wait.join(60)
    # Then it is told
    assert ended == ["cancelled"]


def test_a_service_that_is_not_there_is_told_soon(proxy: Proxy) -> None:
    proxy.reset(new=True)
    with Client(f"http://127.0.0.1:{proxy.port}", retry_for=0.3) as client:
        for ask in (client.jobs, lambda: client.submit(MANY[:1])):
            with pytest.raises(errors.ServiceUnavailable, match="cannot be reached"):
                ask()


@pytest.mark.parametrize("url", ["", "host:8000", "ftp://host", "http://", "http://host:port", "http://h?x=1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(errors.InvalidOption):
        Client(url)


def test_places_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidOption):
        Client("http://host", data_dir=tmp_path)  # type: ignore[call-overload]
    for alone in ({"api_key": "em_a_b"}, {"retry_for": 3}, {"data_dir": tmp_path, "retry_for": 3}):
        with pytest.raises(errors.InvalidOption, match="no url of a service"):
            Client(**alone)  # type: ignore[call-overload]
    with Client(settings=Settings.load(url="http://host"), retry_for=3) as client:  # type: ignore[call-overload]
        assert isinstance(client, HttpClient)


@pytest.mark.parametrize(
    ("kind", "beside"),
    [
        (Client, {"url": "http://host"}),
        (Client, {"data_dir": "mill"}),
        (Client, {"redis_url": "redis://host"}),
        (Client, {"model": "a/b"}),
        (StorageClient, {"database_url": "sqlite:///mill"}),
        (StorageClient, {"model": "a/b"}),
        (HttpClient, {"url": "http://host"}),
        (HttpClient, {"api_key": "em_a_b"}),
        (HttpClient, {"model": "a/b"}),
    ],
)
def test_settings_have_nothing_beside_them(kind: Any, beside: dict[str, str], tmp_path: Path) -> None:
    for place in ({"data_dir": tmp_path}, {"url": "http://elsewhere"}):
        with pytest.raises(errors.InvalidOption, match=f"settings and {next(iter(beside))} were both given"):
            kind(settings=Settings.load(**place), **beside)


def test_the_place_may_come_from_the_environment(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EMBEDMILL_URL", served.url)
    with Client() as client:
        assert isinstance(client, HttpClient)
        client.jobs(1)
    # A place that is given counts more
    with Client(data_dir=tmp_path) as client:
        assert client.jobs(1) == []


def test_a_wrong_key_and_another_ones_job_are_refused(keyed: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given two keys, and one that may only read
    keys = keyed.service.stores.keys
    (_, mine), (_, other), (_, reader) = keys.create("mine"), keys.create("other"), keys.create("reader", ["read"])
    with Client(keyed.url, api_key=mine) as client:
        job = client.submit(MANY[:1], **WAITS)
        # Then each sees its own jobs, and the other's are unknown
        assert [status.id for status in client.jobs()] == [job.id]
        with Client(keyed.url, api_key=other) as stranger, pytest.raises(errors.UnknownJob):
            stranger.job(job.id)
        job.cancel()
    # And what a key may not do is refused, and no key at all
    monkeypatch.setenv("EMBEDMILL_API_KEY", reader)
    with Client(keyed.url) as client:
        assert client.jobs() == []
        with pytest.raises(errors.Forbidden):
            client.submit(MANY[:1])
    for key in (f"{mine}x", "em_no_key", "kein schlüssel"):
        with pytest.raises(errors.Unauthorized) as raised, Client(keyed.url, api_key=key) as client:
            client.jobs()
        assert key not in str(raised.value)


def test_a_key_that_has_used_up_what_it_may_is_told_so(keyed: Served) -> None:
    _, key = keyed.service.stores.keys.create("small", quota=Quota(texts=2))
    with Client(keyed.url, api_key=key, retry_for=0) as client, pytest.raises(errors.QuotaExceeded):
        client.submit(MANY[:3])
