"""Results as files: every format, resumed at any byte, in constant memory."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator

import httpx
import numpy as np
import pyarrow.ipc
import pyarrow.parquet
import pytest

from producer.api.settings import ApiSettings
from storage.contract.errors import Overloaded
from tests.acceptance.shell import until
from tests.service.serving import Served, serving
from tests.storage.builders import CARD, chunk, claim, finish, result, serve, submit

FORMATS = ("npy", "npz", "jsonl", "arrow", "parquet")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service over a database of its own."""
    with serving(ApiSettings.load(data_dir=tmp_path_factory.mktemp("alone"), model=CARD.name)) as served:
        yield served


@pytest.fixture(scope="module")
def done(alone: Served) -> str:
    """The results' path of a job with ids of five chunks of two items, in each of which the second one failed."""
    stores = alone.service.stores
    worker = serve(stores)
    ids = [[f"ä{number}", f"b{number}"] for number in range(5)]
    job_id = submit(stores, [chunk(number, ids=ids[number]) for number in range(5)])
    finish(stores, job_id, 5, worker, failed=[1])
    return f"/v1/jobs/{job_id}/results"


@pytest.fixture
def http(alone: Served) -> Iterator[httpx.Client]:
    """An HTTP client of it."""
    with alone.http() as client:
        yield client


def test_every_format_holds_the_same_items(http: httpx.Client, alone: Served, done: str) -> None:
    expected = alone.service.client.job(done.split("/")[3]).vectors()
    got = {format: http.get(done, params={"format": format}) for format in FORMATS}
    assert [answer.status_code for answer in got.values()] == [200] * 5
    assert all(f'.{format}"' in answer.headers["content-disposition"] for format, answer in got.items())
    np.testing.assert_array_equal(np.load(io.BytesIO(got["npy"].content)), expected)
    np.testing.assert_array_equal(np.load(io.BytesIO(got["npz"].content))["vectors"], expected)
    lines = [json.loads(line) for line in got["jsonl"].text.splitlines()]
    assert [line["id"] for line in lines[:3]] == ["ä0", "b0", "ä1"]
    assert lines[2]["vector"] == expected[2].tolist() and lines[3]["error"]["code"] == "encoder_failed"
    for table in (
        pyarrow.ipc.open_file(got["arrow"].content).read_all(),
        pyarrow.parquet.read_table(io.BytesIO(got["parquet"].content)),
    ):
        assert table["id"].to_pylist() == [line["id"] for line in lines]
        assert table["vector"].to_pylist() == [line["vector"] for line in lines]


def test_a_file_is_resumed_at_any_byte(http: httpx.Client, done: str) -> None:
    for format in FORMATS:
        whole = http.get(done, params={"format": format})
        size, etag = len(whole.content), whole.headers["etag"]
        some = {*range(0, size, size // 40), 127, 128, 129, 143, 144, size - 1}
        for start in some if format == "npy" else (0, size // 3, size - 1):
            headers = {"Range": f"bytes={start}-", "If-Range": etag}
            rest = http.get(done, params={"format": format}, headers=headers)
            assert (rest.status_code, rest.headers["etag"]) == (206, etag)
            assert rest.headers["content-range"] == f"bytes {start}-{size - 1}/{size}"
            assert rest.content == whole.content[start:], (format, start)
        pieces = {"5-130": slice(5, 131), "-7": slice(size - 7, size), f"9-{size * 2}": slice(9, size)}
        for asked, piece in pieces.items():
            answer = http.get(done, params={"format": format}, headers={"Range": f"bytes={asked}"})
            assert (answer.status_code, answer.content) == (206, whole.content[piece]), (format, asked)
            assert int(answer.headers["content-length"]) == len(answer.content)


def test_a_range_behind_the_end_and_one_that_is_none(http: httpx.Client, done: str) -> None:
    for format in ("npy", "jsonl", "parquet"):
        whole = http.get(done, params={"format": format})
        size = len(whole.content)
        for asked in (f"{size}-", "-0"):
            answer = http.get(done, params={"format": format}, headers={"Range": f"bytes={asked}"})
            assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{size}")
            assert answer.json()["error"]["message"]
        # Whatever is not understood, or of another file, is answered with the whole
        for headers in (
            {"Range": "lines=1-2"},
            {"Range": "bytes=0-1,4-5"},
            {"Range": "bytes=-"},
            {"Range": "bytes=1-", "If-Range": '"another"'},
        ):
            answer = http.get(done, params={"format": format}, headers=headers)
            assert (answer.status_code, answer.content) == (200, whole.content), headers


def test_few_files_are_made_at_a_time(http: httpx.Client, alone: Served, done: str) -> None:
    # Given files that are being made, or read by others who take their time
    places, taken = alone.service.made_files, 0
    with pytest.raises(Overloaded):
        while True:
            places.take("")
            taken += 1
    # When one more must be made, if only for a byte of it, then its reader is asked to come again
    for headers in ({}, {"Range": "bytes=0-0"}):
        refused = http.get(done, params={"format": "parquet"}, headers=headers)
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
    # But not where nothing is made
    for format in ("npy", "jsonl"):
        assert http.get(done, params={"format": format}).status_code == 200
    assert http.head(done, params={"format": "parquet"}).status_code == 200
    # And once they were read there is a place, which is given back, also where no byte was to be had
    for _ in range(taken):
        places.leave("")
    for headers, status in (({}, 200), ({"Range": "bytes=0-0"}, 206), ({"Range": "bytes=99999999-"}, 416)):
        for format in ("npz", "arrow", "parquet"):
            assert http.get(done, params={"format": format}, headers=headers).status_code == status
    until(lambda: places.taken == 0, "the end of all files")


def test_what_one_has_already_is_not_sent_again(http: httpx.Client, done: str) -> None:
    for format in FORMATS:
        etag = http.head(done, params={"format": format}).headers["etag"]
        for tag in (etag, f'"x", W/{etag}', "*"):
            answer = http.get(done, params={"format": format}, headers={"If-None-Match": tag})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
        assert http.get(done, params={"format": format}, headers={"If-None-Match": '"x"'}).status_code == 200


def test_the_headers_alone_tell_how_long_a_numpy_file_is(http: httpx.Client, done: str) -> None:
    head = http.head(done, params={"format": "npy"})
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(http.get(done, params={"format": "npy"}).content)
    assert http.head(done).status_code == 200
    # And of one that would have to be made first, nothing is said rather than that it is empty
    for format in ("npz", "arrow", "parquet"):
        head = http.head(done, params={"format": format})
        assert head.status_code == 200 and "content-length" not in head.headers


def test_only_failed_items_and_lines_from_a_position_on(http: httpx.Client, done: str) -> None:
    failed = http.get(done, params={"format": "jsonl", "status": "failed"})
    assert [json.loads(line)["position"] for line in failed.text.splitlines()] == [1, 3, 5, 7, 9]
    assert pyarrow.parquet.read_table(
        io.BytesIO(http.get(done, params={"format": "parquet", "status": "failed"}).content)
    )["position"].to_pylist() == [1, 3, 5, 7, 9]
    whole = http.get(done, params={"format": "jsonl", "encoding": "base64"}).text.splitlines()
    rest = http.get(done, params={"format": "jsonl", "encoding": "base64", "after": 3}).text.splitlines()
    assert rest == whole[3:]
    assert http.get(done, params={"format": "jsonl", "after": 10**9}).text == ""


def test_what_does_not_go_together_is_refused(http: httpx.Client, done: str) -> None:
    for query in (
        "format=csv",
        "format=",
        "format=npy&status=failed",
        "format=npz&status=failed",
        "format=npy&encoding=base64",
        "format=jsonl&status=succeeded",
        "format=jsonl&limit=5",
        "format=npy&after=1",
        "encoding=hex",
        "status=lost",
        "after=-1",
        "after=x",
        "limit=0",
        "limit=1001",
    ):
        answer = http.get(f"{done}?{query}")
        assert (answer.status_code, bool(answer.json()["error"]["message"])) == (400, True), query


def test_a_file_before_the_end_is_refused_and_changes_when_items_are_tried_again(
    http: httpx.Client, alone: Served
) -> None:
    # Given a job with a failed item
    stores = alone.service.stores
    worker = serve(stores)
    job_id = submit(stores, 1)
    path = f"/v1/jobs/{job_id}/results"
    assert http.get(path, params={"format": "npy"}).json()["error"]["code"] == "wrong_state"
    assert http.get(path, params={"format": "npy"}).status_code == 409
    finish(stores, job_id, 1, worker, failed=[1])
    first = http.get(path, params={"format": "npy"})
    # When it is tried again and has a vector
    http.post(f"/v1/jobs/{job_id}/retry")
    assert http.get(path, params={"format": "npy"}).status_code == 409
    (held,) = claim(stores, job_id, 0, worker)
    stores.leases.commit([(held, result())])
    # Then the file is another one, and whoever had half of the old one gets the whole new one
    headers = {"Range": "bytes=130-", "If-Range": first.headers["etag"]}
    again = http.get(path, params={"format": "npy"}, headers=headers)
    assert (again.status_code, again.headers["etag"] == first.headers["etag"]) == (200, False)
    assert not np.isnan(np.load(io.BytesIO(again.content))).any()


def test_a_large_download_takes_little_memory(http: httpx.Client, alone: Served) -> None:
    # Given a job of 40 MB of vectors
    stores = alone.service.stores
    worker = serve(stores)
    texts = ["wheat"] * 50_000
    job_id = submit(stores, [chunk(number, texts) for number in range(50)])
    for number in range(50):
        (held,) = claim(stores, job_id, number, worker)
        stores.leases.commit([(held, result(len(texts)))])
    tracemalloc.start()
    with http.stream("GET", f"/v1/jobs/{job_id}/results", params={"format": "npy"}) as answer:
        size = sum(len(block) for block in answer.iter_raw())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 128 + 50 * 50_000 * 16
    # Two pages of 8 MB, and one that is on its way
    assert peak < 32_000_000
