"""What was measured is remembered: whole or not at all, and never at the price of a start."""

from __future__ import annotations

import resource
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from tests.repeating import repeating
from worker.engine.records import Batching, Record, Records

KEY = "mill/model 1\na processor\ntorch 9"
RECORD = Record(
    key=KEY, attempts=1, dtype="bfloat16", why="1.9 x", batchings={"bfloat16": Batching(token_budget=512, cores=2)}
)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    # Given a record that was kept
    Records(tmp_path / "new" / "folder").write(RECORD)
    # When read by another process's store, then it is the same, and there is nothing for another model
    assert Records(tmp_path / "new" / "folder").read(KEY) == RECORD
    assert Records(tmp_path / "new" / "folder").read("another") == Record(key="another")
    assert [path.suffix for path in (tmp_path / "new" / "folder").iterdir()] == [".json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        RECORD.model_dump_json().encode()[:-20],
        RECORD.model_dump_json().replace("bfloat16", "float8").encode(),
        RECORD.model_dump_json().replace("512", "-1").encode(),
        RECORD.model_dump_json().replace("mill", "other").encode(),
    ],
)
def test_a_damaged_or_foreign_file_is_none(tmp_path: Path, content: bytes) -> None:
    # Given a file in the record's place that is not that record
    records = Records(tmp_path)
    records.path(KEY).write_bytes(content)
    # When read, then nothing is known; and it can be written over
    assert records.read(KEY) == Record(key=KEY)
    records.write(RECORD)
    assert records.read(KEY) == RECORD


def test_a_record_that_finds_no_room_leaves_nothing_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Given a record, and from then on no room for another
    records = Records(tmp_path)
    records.write(RECORD)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        # When a newer one is written
        records.write(RECORD.model_copy(update={"attempts": 2}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    # Then the old one stays, alone
    assert "the next start finds it out again" in caplog.text
    assert records.read(KEY) == RECORD and list(tmp_path.iterdir()) == [records.path(KEY)]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Given a file where the folder should be
    (tmp_path / "tuning").write_text("in the way")
    records = Records(tmp_path / "tuning")
    # When used, then it goes on, remembers nothing, and says so
    with records.alone(1):
        records.write(RECORD)
    assert records.read(KEY) == Record(key=KEY)
    assert "the next start finds it out again" in caplog.text


def test_a_folder_in_the_place_of_the_file_is_no_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.path(KEY).mkdir()
    records.write(RECORD)
    assert records.read(KEY) == Record(key=KEY)
    assert list(tmp_path.iterdir()) == [records.path(KEY)]


def test_readers_find_a_whole_record_while_others_write(tmp_path: Path) -> None:
    # Given two that write all the time, each its own record under the same name
    records = Records(tmp_path)
    written = [RECORD, RECORD.model_copy(update={"why": "x" * 50_000})]
    records.write(written[0])
    with repeating(*(partial(Records(tmp_path).write, record) for record in written)) as raised:
        # When read meanwhile, then it is always one of the two
        found = [records.read(KEY) for _ in range(300)]
    assert raised == []
    assert all(record in written for record in found)


def test_only_one_measures_at_a_time_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    # Given somebody who measures
    begun, over, order = threading.Event(), threading.Event(), []

    def measure() -> None:
        with Records(tmp_path).alone(0):
            begun.set()
            over.wait(100)
            order.append("first")

    first = threading.Thread(target=measure)
    first.start()
    assert begun.wait(60)
    # When another one's patience ends, then it goes on
    with Records(tmp_path).alone(0.1):
        assert order == []
    # When it has more, then it waits for the end
    threading.Timer(0.3, over.set).start()
    start = time.monotonic()
    with Records(tmp_path).alone(90):
        order.append("second")
    first.join()
    assert order == ["first", "second"] and time.monotonic() - start < 60
