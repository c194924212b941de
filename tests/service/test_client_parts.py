"""Large submissions over HTTP: part by part, through broken connections and restarts, in constant memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from producer.api.settings import ApiSettings
from producer.remote import upload
from producer.remote.client import HttpClient
from storage.contract import errors
from storage.contract.ids import new_id
from tests.faults.proxy import Proxy
from tests.service.serving import Served, serving
from tests.service.submitted import MANY, WAITS, job_ids, kept
from tests.storage.builders import CARD, serve


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a submission of 40 kB go in parts of 10 kB."""
    monkeypatch.setattr(upload, "AT_ONCE", 2_000)
    monkeypatch.setattr(upload, "PART", 10_000)


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
    served: Served, proxy: Proxy, http_client: HttpClient, fault: str, needle: bytes
) -> None:
    with kept(served, http_client, MANY) as made:
        drop = proxy.drop_reply if fault == "reply" else proxy.drop_request
        drop(needle)
        made.append(http_client.submit(iter(MANY), **WAITS).id)
        assert proxy.dropped.is_set()


@pytest.mark.usefixtures("small_parts")
def test_parts_go_on_after_the_service_was_restarted(
    served: Served, proxy: Proxy, http_client: HttpClient, data_dir: Path
) -> None:
    with ExitStack() as stack, kept(served, http_client, MANY) as made:
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

        made.append(http_client.submit(texts(), **WAITS).id)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_submission_that_breaks_off_leaves_nothing_behind(
    served: Served, http_client: HttpClient, error: type[BaseException]
) -> None:
    # Given texts whose source fails after two parts
    def texts() -> Iterator[str]:
        yield from MANY[:200]
        raise error("the source has dried up")

    before = job_ids(served)
    # When they are submitted, then the error comes through and no row is left
    with pytest.raises(error, match="dried up"):
        http_client.submit(texts())
    assert job_ids(served) <= before


@pytest.mark.usefixtures("small_parts")
def test_a_job_that_the_database_may_have_taken_is_not_called_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(ApiSettings.load(data_dir=tmp_path, model=CARD.name)) as served:
        serve(served.service.stores)
        parts = served.service.stores.parts
        seal = parts.seal

        def lost(*given: object) -> bool:
            seal(*given)  # type: ignore[arg-type]
            raise errors.StorageUnavailable("The database does not answer.")

        # Given a database that takes a job, and whose answer is lost
        monkeypatch.setattr(parts, "seal", lost)
        with HttpClient(served.url, retry_for=0) as client:
            # When it is submitted, then it is said that nobody knows
            with pytest.raises(errors.ServiceUnavailable, match="is not known"):
                client.submit(iter(MANY))
            # And it is not taken back behind the submitter's back
            assert [job.total for job in client.jobs()] == [len(MANY)]


@pytest.mark.usefixtures("small_parts")
def test_bad_items_in_any_part_are_all_reported_and_nothing_is_left(served: Served, http_client: HttpClient) -> None:
    # Given an id that comes again in a later part, which only the service can tell, and a blank text after that
    texts, ids = list(MANY), [f"sack-{i}" for i in range(300)]
    ids[150] = "sack-3"
    texts[299] = " "
    before = job_ids(served)
    with pytest.raises(errors.InvalidItems) as raised:
        http_client.submit(texts, ids=ids)
    found = [(problem.position, problem.where, problem.reason) for problem in raised.value.problems]
    assert (299, "item 299", "the text is blank") in found
    assert job_ids(served) <= before


@pytest.mark.usefixtures("small_parts")
def test_a_key_gives_the_same_job_in_parts_too(served: Served, http_client: HttpClient) -> None:
    key = f"harvest {new_id()}"
    with kept(served, http_client, MANY) as made:
        made.append(http_client.submit(MANY, idempotency_key=key, **WAITS).id)
        assert http_client.submit(iter(MANY), idempotency_key=key, **WAITS).id == made[0]
        with pytest.raises(errors.IdempotencyConflict):
            http_client.submit(MANY[1:], idempotency_key=key, **WAITS)


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
    ran = subprocess.run([sys.executable, "-c", _LARGE, served.url], capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    # Three parts of 8 MB more or less would show.
    assert int(ran.stdout) < 15, f"{ran.stdout} MB more for three times as many texts"


@pytest.mark.usefixtures("small_parts")
def test_a_text_that_is_too_long_for_the_service_is_reported_by_its_place(http_client: HttpClient) -> None:
    with pytest.raises(errors.InvalidItems) as raised:
        http_client.submit([*MANY, "x" * 1_000_001])
    reason = "the text has 1,000,001 bytes, more than the limit of 1,000,000"
    assert [(p.position, p.where, p.reason) for p in raised.value.problems] == [(300, "item 300", reason)]
