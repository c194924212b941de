"""Which exports are possible, what pages they take, and jsonl."""

import base64
import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from producer.exports import FORMATS, write
from storage.contract.errors import InvalidOption, MissingExtra
from storage.outcomes import Page
from tests.producer.export_pages import ERRORS, IDS, STATUSES, TOKENS, TRUNCATED, job, matrix, pages


def lines(**options: Any) -> list[dict[str, Any]]:
    stream = io.BytesIO()
    dtype, ids = options.pop("dtype", "float32"), options.pop("ids", True)
    written = write(job(dtype, ids), pages(dtype, ids), stream, "jsonl", **options)
    found = [json.loads(line, parse_float=str) for line in stream.getvalue().decode().splitlines()]
    assert written == len(found)
    return found


def test_jsonl_has_one_object_an_item_in_order() -> None:
    found = lines()
    assert list(found[0]) == ["position", "id", "status", "tokens", "truncated", "vector", "error"]
    assert [line["position"] for line in found] == list(range(7))
    assert [line["id"] for line in found] == IDS
    assert [line["status"] for line in found] == STATUSES
    assert [line["tokens"] for line in found] == TOKENS
    assert [line["truncated"] for line in found] == TRUNCATED
    assert {i: line["error"] for i, line in enumerate(found) if line["error"]} == {
        i: {"code": error.code, "message": error.message} for i, error in ERRORS.items()
    }
    assert [line["vector"] is None for line in found] == [status != "succeeded" for status in STATUSES]


def test_jsonl_without_ids_has_no_field_for_them() -> None:
    assert list(lines(ids=False)[0]) == ["position", "status", "tokens", "truncated", "vector", "error"]


def test_jsonl_writes_ids_as_they_are_and_escapes_what_must_be() -> None:
    stream = io.BytesIO()
    write(job(), pages(), stream, "jsonl")
    assert '"id": "蚂蚁"' in stream.getvalue().decode()
    assert '"id": "f\\"ox"' in stream.getvalue().decode()


def test_numbers_are_the_shortest_that_are_read_back_exactly() -> None:
    rows = matrix()
    found = [line["vector"] for line in lines()]
    assert found[0] == ["0.33333334", "-0.0", "6.1e-05", "1.0", "0.1"]
    for i in (0, 2, 5):
        assert np.array([np.float32(number) for number in found[i]]).tobytes() == rows[i].tobytes()


def test_every_float32_survives_jsonl() -> None:
    bits = np.random.default_rng(3).integers(0, 2**32, 4000, dtype=np.uint32)
    extremes = np.array([1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x80000001, 0x5A0E1BCA], dtype=np.uint32)
    numbers = np.concatenate([bits, extremes]).view(np.float32)
    vector = numbers[np.isfinite(numbers)]
    width = len(vector)
    page = replace(next(pages()), size=1, ids=None, width=width, vectors=vector.tobytes(), errors={})
    page = replace(page, tokens=page.tokens[:1], lengths=page.lengths[:1])
    stream = io.BytesIO()
    write(job(ids=False, total=1, width=width), [page], stream, "jsonl")
    assert np.array(json.loads(stream.getvalue())["vector"], dtype=np.float32).tobytes() == vector.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_base64_is_the_float32_bytes(dtype: str) -> None:
    expected = matrix(dtype).astype("<f4")
    for line, row in zip(lines(dtype=dtype, encoding="base64"), expected, strict=True):
        if line["status"] == "succeeded":
            assert base64.b64decode(line["vector"]) == row.tobytes()
        else:
            assert line["vector"] is None


def test_float16_vectors_are_written_with_their_exact_values() -> None:
    found = [line["vector"] for line in lines(dtype="float16")]
    assert np.array(found[0], dtype=np.float32).tobytes() == matrix("float16")[0].astype(np.float32).tobytes()


def test_only_failed_keeps_the_failed_and_the_cancelled() -> None:
    found = lines(only_failed=True)
    assert [(line["position"], line["status"]) for line in found] == [
        (1, "failed"),
        (3, "cancelled"),
        (4, "cancelled"),
        (6, "failed"),
    ]


def test_items_still_pending_say_so_and_are_no_failures() -> None:
    stream = io.BytesIO()
    waiting = [replace(page, rest="pending") for page in pages()]
    assert write(job(), waiting, stream, "jsonl", only_failed=True) == 2
    write(job(), waiting, stream, "jsonl")
    assert [json.loads(line)["status"] for line in stream.getvalue().splitlines()[5:7]] == ["pending", "pending"]


@pytest.mark.parametrize("format", ["npz", "jsonl", "parquet"])
def test_a_vector_outweighs_an_error_of_the_same_item(tmp_path: Path, format: str) -> None:
    """As `Page.outcomes` has it, in every format alike."""
    found = [replace(page, errors={**page.errors, 0: ERRORS[1]}) if page.first == 0 else page for page in pages()]
    path = tmp_path / f"zoo.{format}"
    write(job(), found, path)
    if format == "npz":
        with np.load(path) as arrays:
            assert arrays["status"][0] == "succeeded"
        return
    row = json.loads(path.read_text().splitlines()[0]) if format == "jsonl" else pq.read_table(path).to_pylist()[0]
    assert row["status"] == "succeeded"
    assert not row.get("error") and not row.get("error_code")


def damaged(damage: Callable[[list[Page]], list[Page]]) -> list[Page]:
    return damage(list(pages()))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda found: found[:2], "the pages end at item 5 of 7"),
        (lambda found: [], "the pages end at item 0 of 7"),
        (lambda found: [found[0], found[2]], "item 3 is due, but the items 5 to 6 came"),
        (lambda found: [found[0], found[0]], "item 3 is due, but the items 0 to 2 came"),
        (lambda found: [*found, replace(found[0], first=7)], "item 7 is due, but the items 7 to 9 came"),
        (lambda found: [replace(found[0], ids=None)], "the page at item 0 is of another kind"),
        (lambda found: [replace(found[0], dtype="float16")], "the page at item 0 is of another kind"),
        (lambda found: [replace(found[0], width=4)], "the page at item 0 is of another kind"),
        (lambda found: [replace(found[0], vectors=b"1234")], "the page at item 0 is of another kind"),
    ],
)
def test_pages_that_are_not_the_whole_job_leave_no_file(
    tmp_path: Path, format: str, damage: Callable[[list[Page]], list[Page]], message: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        write(job(), damaged(damage), tmp_path / f"zoo.{format}")
    assert list(tmp_path.iterdir()) == []


def test_the_ending_names_the_format(tmp_path: Path) -> None:
    write(job(), pages(), tmp_path / "ZOO.JSONL")
    assert (tmp_path / "ZOO.JSONL").read_text().startswith('{"position": 0')


def test_a_named_format_comes_before_the_ending(tmp_path: Path) -> None:
    write(job(), pages(), tmp_path / "zoo.txt", "jsonl")
    assert (tmp_path / "zoo.txt").read_text().startswith('{"position": 0')


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("zoo.txt", {}, r"The ending of .*zoo\.txt names no format.*npy, npz, jsonl, arrow, parquet"),
        ("zoo", {}, "names no format"),
        ("zoo.npy", {"format": "xml"}, "npy, npz, jsonl, arrow, parquet, not 'xml'"),
        ("zoo.jsonl", {"encoding": "hex"}, "encoding must be one of float, base64, not 'hex'"),
        ("zoo.npy", {"encoding": "base64"}, "one of jsonl files, not of npy"),
        ("zoo.npy", {"only_failed": True}, r"Failed items have no vectors.*jsonl"),
        ("zoo.npz", {"only_failed": True}, r"Failed items have no vectors.*jsonl"),
    ],
)
def test_options_that_cannot_be_met_are_refused(
    tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidOption, match=message):
        write(job(), pages(), tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["npz", "parquet"])
def test_formats_that_need_a_file_are_not_streamed(format: str) -> None:
    with pytest.raises(InvalidOption, match="cannot be streamed"):
        write(job(), pages(), io.BytesIO(), format)


def test_a_stream_needs_a_named_format() -> None:
    with pytest.raises(InvalidOption, match="Name one of npy, jsonl, arrow"):
        write(job(), pages(), io.BytesIO())


@pytest.mark.parametrize("format", ["arrow", "parquet"])
def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"embedmill\[arrow\]"):
        write(job(), pages(), tmp_path / f"zoo.{format}")
    assert list(tmp_path.iterdir()) == []
