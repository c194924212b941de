"""What a client over HTTP does when connections are cut, the service is restarted, or its key is wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from embedmill import Client
from producer.api.settings import ApiSettings
from producer.remote import upload
from producer.remote.client import HttpClient
from storage.contract import errors
from storage.contract.ids import new_id
from tests.faults.proxy import Proxy
from tests.service.serving import Served, serving

#: Of the default model, a revision that nobody serves: a job for it waits, and costs nothing, until it is cancelled.
WAITS = {"revision": "feedbeef"}

#: Texts that no other test has, of about 120 bytes each.
MANY = [f"Sack {i} of the harvest, {'grain ' * 15}" for i in range(300)]


@pytest.fixture
def proxy(served: Served) -> Iterator[Proxy]:
    """Stands between client and service."""
    proxy = Proxy(urlsplit(served.url).port or 0)
    yield proxy
    proxy.close()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[HttpClient]:
    """A client that reaches the service through `proxy`."""
    with Client(f"http://127.0.0.1:{proxy.port}", retry_for=20) as client:
        yield client


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a submission of 40 kB go in parts of 10 kB."""
    monkeypatch.setattr(upload, "AT_ONCE", 2_000)
    monkeypatch.setattr(upload, "PART", 10_000)


@contextmanager
def kept(served: Served, client: Client, expected: list[str]) -> Iterator[list[str]]:
    """Check after a block that there is one job more, which holds these texts, and cancel it.

    The block appends the id of the job.
    """
    before = {status.id for status in client.jobs(100)}
    made: list[str] = []
    yield made
    after = {status.id for status in client.jobs(100)} - before
    assert after == set(made) and len(made) == 1
    texts = [text for page in _inputs(served, made[0]) for text in page]
    client.job(made[0]).cancel()
    assert texts == expected


def _inputs(served: Served, job_id: str) -> Iterator[list[str]]:
    from sqlalchemy import select

    from storage.tables import InputRow
    from storage.texts import unpack

    with served.service.stores.database.read() as connection:
        rows = select(InputRow.texts).where(InputRow.job_id == job_id).order_by(InputRow.number)
        yield from (unpack(blob) for blob in connection.execute(rows).scalars())


@pytest.mark.parametrize("fault", ["reply", "request"])
def test_a_small_submission_whose_connection_is_cut_makes_one_job(
    served: Served, proxy: Proxy, client: HttpClient, fault: str
) -> None:
    with kept(served, client, MANY[:3]) as made:
        # Given a network that loses the submission, or its answer
        drop = proxy.drop_reply if fault == "reply" else proxy.drop_request
        drop(b"POST /v1/jobs ")
        # When a job is submitted without any key
        made.append(client.submit(MANY[:3], **WAITS).id)
        # Then there is one
        assert proxy.dropped.is_set()


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("fault", "needle"),
    [
        ("request", b"/parts/1 "),
        ("reply", b"/parts/1 "),
        ("request", b"Sack 150 "),
        ("reply", b"/seal "),
        ("request", b"/seal "),
    ],
)
def test_a_cut_connection_costs_one_part_and_doubles_nothing(
    served: Served, proxy: Proxy, client: HttpClient, fault: str, needle: bytes
) -> None:
    with kept(served, client, MANY) as made:
        drop = proxy.drop_reply if fault == "reply" else proxy.drop_request
        drop(needle)
        made.append(client.submit(iter(MANY), **WAITS).id)
        assert proxy.dropped.is_set()


@pytest.mark.usefixtures("small_parts")
def test_parts_go_on_after_the_service_was_restarted(
    served: Served, proxy: Proxy, client: HttpClient, data_dir: Path
) -> None:
    with ExitStack() as stack, kept(served, client, MANY) as made:
        first = ExitStack()
        one = first.enter_context(serving(ApiSettings.load(data_dir=data_dir)))
        proxy.aim(urlsplit(one.url).port or 0)
        proxy.reset()

        def texts() -> Iterator[str]:
            for number, text in enumerate(MANY):
                if number == 200:
                    # While the texts are read the service goes, and another comes in its place.
                    first.close()
                    other = stack.enter_context(serving(ApiSettings.load(data_dir=data_dir)))
                    proxy.aim(urlsplit(other.url).port or 0)
                yield text

        made.append(client.submit(texts(), **WAITS).id)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_submission_that_breaks_off_leaves_nothing_behind(
    served: Served, client: HttpClient, error: type[BaseException]
) -> None:
    # Given texts whose source fails after two parts
    def texts() -> Iterator[str]:
        yield from MANY[:200]
        raise error("the source has dried up")

    before = _rows(served)
    # When they are submitted, then the error comes through and no row is left
    with pytest.raises(error, match="dried up"):
        client.submit(texts())
    assert _rows(served) <= before


@pytest.mark.usefixtures("small_parts")
def test_bad_items_in_any_part_are_all_reported_and_nothing_is_left(served: Served, client: HttpClient) -> None:
    # Given an id that comes again in a later part, which only the service can tell, and a blank text after that
    texts, ids = list(MANY), [f"sack-{i}" for i in range(300)]
    ids[150] = "sack-3"
    texts[299] = " "
    before = _rows(served)
    with pytest.raises(errors.InvalidItems) as raised:
        client.submit(texts, ids=ids)
    found = [(problem.position, problem.where, problem.reason) for problem in raised.value.problems]
    assert (299, "item 299", "the text is blank") in found
    assert _rows(served) <= before


@pytest.mark.usefixtures("small_parts")
def test_a_key_gives_the_same_job_in_parts_too(served: Served, client: HttpClient) -> None:
    key = f"harvest {new_id()}"
    with kept(served, client, MANY) as made:
        made.append(client.submit(MANY, idempotency_key=key, **WAITS).id)
        assert client.submit(iter(MANY), idempotency_key=key, **WAITS).id == made[0]
        with pytest.raises(errors.IdempotencyConflict):
            client.submit(MANY[1:], idempotency_key=key, **WAITS)


def test_a_cut_download_goes_on_where_it_was(proxy: Proxy, client: HttpClient) -> None:
    # Given 300 vectors, 460 kB
    job = client.submit([f"Sack {i}" for i in range(300)])
    job.wait(90)
    whole = job.vectors()
    # When the connection is cut after 200 kB of them have come
    proxy.cut_after(200_000)
    again = job.vectors()
    # Then they are all there
    assert proxy.dropped.is_set()
    assert np.array_equal(whole, again) and whole.shape == (300, 384)


def test_a_wait_survives_cut_connections(proxy: Proxy, client: HttpClient) -> None:
    # Given somebody who waits for a job
    job = client.submit(MANY[:1], **WAITS)
    ended: list[str] = []
    begun = threading.Event()
    wait = threading.Thread(target=lambda: ended.append(job.wait(30, lambda status: begun.set()).state))
    wait.start()
    # When all connections are cut, and then the job ends
    assert begun.wait(10)
    proxy.reset()
    job.cancel()
    wait.join(20)
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
    with pytest.raises(errors.InvalidOption):
        Client(api_key="em_a_b")


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


_LARGE = """
import resource, sys
from embedmill import Client

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def submit(count):
    job = client.submit((f"{i} " + "grain " * 80 for i in range(count)), revision="feedbeef")
    assert job.status().total == count
    job.cancel()
    job.delete()

with Client(sys.argv[1]) as client:
    submit(40_000)
    before = peak()
    submit(120_000)
    print(peak() - before)
"""


def test_a_large_submission_takes_no_more_memory_than_a_small_one(served: Served) -> None:
    ran = subprocess.run([sys.executable, "-c", _LARGE, served.url], capture_output=True, text=True, timeout=110)
    assert ran.returncode == 0, ran.stderr
    # Three parts of 8 MB more or less would show.
    assert int(ran.stdout) < 15, f"{ran.stdout} MB more for three times as many texts"


def _rows(served: Served) -> set[str]:
    """Return the ids of all jobs, unsealed ones too."""
    from sqlalchemy import select

    from storage.tables import JobRow

    with served.service.stores.database.read() as connection:
        return set(connection.execute(select(JobRow.id)).scalars())
