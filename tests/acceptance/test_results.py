"""Results: every format says the same, in submission order, and no file is ever half there."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from embedmill import Client
from tests.acceptance.shell import Shell

#: Of these one is invalid and one is longer than `--max-length 12` allows.
ITEMS = [
    {"id": "millstone", "text": "The stone turns."},
    {"id": "nothing", "text": ""},
    {"id": "long", "text": "grain " * 40},
    {"id": "磨坊", "text": "磨坊在河边。"},
]
STATUSES = ["succeeded", "failed", "succeeded", "succeeded"]
TRUNCATED = [False, False, True, False]


@pytest.fixture(scope="module")
def job(stack: tuple[Path, object]) -> str:
    """A completed job of four items, of which one failed and one was cut."""
    data_dir = stack[0] / "data"
    with Client(data_dir=data_dir) as client:
        texts, ids = [item["text"] for item in ITEMS], [item["id"] for item in ITEMS]
        submitted = client.submit(texts, ids=ids, on_invalid="keep", max_length=12)
        submitted.wait(60)
        return submitted.id


def test_every_format_says_the_same(shell: Shell, job: str) -> None:
    # Given a completed job, when fetched in every format
    names = ["r.npy", "r.npz", "r.jsonl", "r.arrow", "r.parquet"]
    streamed = ("results", job, "-o", "-", "--output-format", "jsonl", "--encoding", "base64")
    ran = shell.together([*(("results", job, "-o", name) for name in names), streamed])
    assert [one.code for one in ran] == [0] * 6, ran
    assert all(one.out == "" for one in ran[:5]) and "4 items in r.npy" in ran[0].err and ran[5].err == ""
    coded = [json.loads(line) for line in ran[5].out.splitlines()]
    # Then ids, states and flags are those of the items, in their order
    lines = _lines(shell.cwd / "r.jsonl")
    zipped = np.load(shell.cwd / "r.npz")
    tables = [feather.read_table(shell.cwd / "r.arrow"), pq.read_table(shell.cwd / "r.parquet")]
    assert [line["id"] for line in lines] == list(zipped["ids"]) == [item["id"] for item in ITEMS]
    assert [line["status"] for line in lines] == STATUSES
    assert [line["truncated"] for line in lines] == list(zipped["truncated"]) == TRUNCATED
    assert [line["error"] and line["error"]["code"] for line in lines] == [None, "invalid_item", None, None]
    assert [line["tokens"] for line in lines] == list(zipped["tokens"]) == tables[0]["tokens"].to_pylist()
    assert tables[0].equals(tables[1].cast(tables[0].schema))
    assert [{**line, "vector": None} for line in coded] == [{**line, "vector": None} for line in lines]
    # And the vectors are the same to the last bit
    matrix = np.load(shell.cwd / "r.npy")
    assert np.isnan(matrix).all(axis=1).tolist() == [False, True, False, False]
    np.testing.assert_array_equal(zipped["vectors"], matrix)
    for i in (0, 2, 3):
        assert base64.b64decode(coded[i]["vector"]) == matrix[i].tobytes()
        assert matrix[i].tobytes() == np.array(lines[i]["vector"], dtype=np.float32).tobytes()
        assert tables[0]["vector"][i].as_py() == matrix[i].tolist()
    assert lines[1]["vector"] is None and tables[0]["vector"][1].as_py() is None


def test_failed_items_alone_are_written_with_their_errors(shell: Shell, job: str) -> None:
    # Given a job with one failed item, when only failed items are asked for
    ran = shell("results", job, "--failed", "-o", "failed.jsonl")
    # Then only that one is there
    lines = _lines(shell.cwd / "failed.jsonl")
    assert ran.code == 0 and "1 item in failed.jsonl" in ran.err
    assert [(line["position"], line["id"], line["error"]["code"]) for line in lines] == [(1, "nothing", "invalid_item")]


def test_an_output_that_exists_is_kept_unless_force_is_given(shell: Shell, job: str) -> None:
    # Given a file in the way
    shell.write("mine.npy", "my thesis")
    shell.write("in.txt", "a text")
    jobs = shell.rows()[0]
    # When results should go there, or a whole new job's
    refused = shell.together([("results", job, "-o", "mine.npy"), ("embed", "in.txt", "-o", "mine.npy")])
    # Then nothing is written, nor even submitted
    assert [one.code for one in refused] == [2, 2]
    assert all("mine.npy exists already" in one.err and "--force" in one.err for one in refused)
    assert (shell.cwd / "mine.npy").read_text() == "my thesis" and shell.rows()[0] == jobs
    # And --force replaces it
    assert shell("results", job, "-o", "mine.npy", "--force").code == 0
    assert np.load(shell.cwd / "mine.npy").shape == (4, 384)
    assert sorted(path.name for path in shell.cwd.iterdir()) == ["in.txt", "mine.npy"]


def test_an_impossible_output_is_refused_before_anything_is_submitted(shell: Shell) -> None:
    # Given texts, and outputs that cannot be
    shell.write("in.txt", "a text")
    jobs = shell.rows()[0]
    impossible = {
        "names no format": ("-o", "out.docx"),
        "There is no folder": ("-o", "nowhere/out.npy"),
        "cannot be streamed": ("-o", "-", "--output-format", "parquet"),
        "encoding must be": ("-o", "out.jsonl", "--encoding", "hex"),
    }
    # When embedded into them
    ran = shell.together([("embed", "in.txt", *words) for words in impossible.values()])
    # Then each is told, and nothing happened
    for sentence, one in zip(impossible, ran, strict=True):
        assert one.code == 2 and sentence in one.err and "Traceback" not in one.err, (sentence, one)
    assert shell.rows()[0] == jobs
    assert [path.name for path in shell.cwd.iterdir()] == ["in.txt"]


def test_a_full_output_is_told_as_one(shell: Shell, job: str) -> None:
    # Given an output without room, when results are written there
    with Path("/dev/full").open("wb", buffering=0) as full:
        process = shell.start("results", job, "-o", "-", "--output-format", "jsonl", stdout=full)
    _, err = process.communicate(timeout=60)
    # Then that is told
    assert process.returncode == 4
    assert b"There is no room for the output" in err and b"Traceback" not in err


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
