"""Forms of the page that would take memory, a disk or hours: none is read of one who may not send it."""

from __future__ import annotations

import gzip
import io
import re
import socket
import time
from collections.abc import Iterator

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from producer.api.bodysizes import FORM_FIELDS
from producer.api.settings import ApiSettings
from tests.service.serving import Served, serving

LINES = b"wheat\nrye\n"

#: Longest answer, in seconds of this process, in which the service runs: what is sent here took minutes.
_LONGEST = 5


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service as it is by default, over an empty database."""
    with serving(ApiSettings.load(data_dir=tmp_path_factory.mktemp("plain"))) as served:
        yield served


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same with keys."""
    with serving(ApiSettings.load(data_dir=tmp_path_factory.mktemp("locked"), auth="keys")) as served:
        yield served


@pytest.fixture
def client(plain: Served) -> Iterator[httpx.Client]:
    """An HTTP client of `plain`."""
    with plain.http() as client:
        yield client


def token_of(http: httpx.Client) -> str:
    """Return what a form of the page carries."""
    found = re.search(r'name="token" value="([0-9a-f]+)"', http.get("/").text)
    assert found
    return found[1]


def multipart(content: bytes) -> bytes:
    """Return a form in parts, between each of which is an x, with one field."""
    head = b'--x\r\nContent-Disposition: form-data; name="texts"\r\n\r\n'
    return head + content + b"\r\n--x--\r\n"


def table(texts: list[str]) -> bytes:
    """Return a Parquet file."""
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), stream)
    return stream.getvalue()


@pytest.mark.parametrize("charset", ["punycode", "utf-7", "no-such", '"idna"'])
def test_a_form_in_another_charset_is_refused_at_once(client: httpx.Client, charset: str) -> None:
    # Given a form that says it is in a charset whose codec takes minutes over it
    media = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    began = time.process_time()
    answer = client.post("/jobs", content=multipart(b"z" * 19_000), headers=media)
    # When sent, then it is refused, and nobody waits
    assert answer.status_code == 415
    assert time.process_time() - began < _LONGEST
    # But UTF-8 may be named
    media = {"Content-Type": "multipart/form-data; boundary=x; charset=UTF-8"}
    assert client.post("/jobs", content=multipart(b"z"), headers=media).status_code == 403


def test_signing_in_takes_no_other_charset_either(locked: Served) -> None:
    media = {"Content-Type": "multipart/form-data; boundary=x; charset=punycode"}
    with locked.http() as http:
        assert http.post("/signin", content=multipart(b"z" * 19_000), headers=media).status_code == 415


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lines.txt.gz", gzip.compress(LINES)),
        ("lines.txt.zst", zstandard.compress(LINES)),
        ("lines.txt", gzip.compress(LINES)),
        ("lines.txt", zstandard.compress(LINES)),
        ("lines.parquet", table(["wheat", "rye"])),
        ("lines.parquet.gz", gzip.compress(table(["wheat", "rye"]))),
        ("lines.exe", LINES),
    ],
    # Not by what is in them: it holds the time.
    ids=["gzip", "zstd", "gzip unnamed", "zstd unnamed", "parquet", "parquet in gzip", "of no kind"],
)
def test_a_file_that_must_be_unpacked_is_not_taken(client: httpx.Client, name: str, content: bytes) -> None:
    # Given a file that may become far larger than it is, when it is sent
    answer = client.post("/jobs", data={"token": token_of(client)}, files={"file": (name, content)})
    # Then it is refused, and what to do is told
    assert answer.status_code == 400 and "embedmill submit" in answer.text
    # But lines are taken as they are
    answer = client.post("/jobs", data={"token": token_of(client)}, files={"file": ("lines.txt", LINES)})
    assert answer.status_code == 303


def test_no_more_texts_are_pasted_than_are_kept_in_memory(client: httpx.Client) -> None:
    token = token_of(client)
    fitting = "rye " * ((FORM_FIELDS - 10_000) // 4)
    # Given fields that are too large together, in either kind of form, when they are sent, then they are refused
    large = {"token": token, "texts": fitting, "prompt": "x" * 20_000}
    assert client.post("/jobs", data=large).status_code == 413
    answer = client.post("/jobs", data=large, files={"file": ("", b"")})
    assert answer.status_code == 400 and "2,000,000 bytes" in answer.text
    # And what fits is taken, but for one text that is too long
    answer = client.post("/jobs", data={"token": token, "texts": fitting}, files={"file": ("", b"")})
    assert answer.status_code == 400 and "more than the limit of 1,000,000" in answer.text


def test_forms_share_the_memory_of_other_bodies(plain: Served, client: httpx.Client) -> None:
    # Given a service whose memory for bodies is taken
    token, room = token_of(client), plain.service.body_room
    taken = room._free
    room.take("", taken, 0)
    try:
        # When texts are pasted, then a little is taken, and more is asked to come again
        for texts, status in (("rye", 303), ("rye\n" * 50_000, 429)):
            answer = client.post("/jobs", data={"token": token, "texts": texts}, files={"file": ("", b"")})
            assert answer.status_code == status
    finally:
        room.leave("", taken)
    # And all of it is given back
    client.post("/jobs", data={"token": token, "texts": "rye\n" * 50_000})
    assert room._free == taken


def test_nothing_is_read_of_a_form_whose_sender_may_not_write(locked: Served) -> None:
    # Given somebody who has signed in with a key that only reads
    _, key = locked.service.stores.keys.create("reader", ("read",))
    with locked.http() as http:
        http.post("/signin", data={"key": key})
        cookie = "; ".join(f"{one.name}={one.value}" for one in http.cookies.jar)
    place = httpx.URL(locked.url)
    head = f"Host: {place.host}\r\nCookie: {cookie}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with socket.create_connection((place.host, place.port or 80), 60) as wire:
        # When he begins a form, then he is refused before anything of it has come
        wire.sendall(f"POST /jobs HTTP/1.1\r\n{head}Content-Length: 10000\r\n\r\n".encode())
        assert wire.recv(12) == b"HTTP/1.1 403"
