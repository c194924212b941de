"""A result file appears whole or not at all."""

import errno
import fcntl
import io
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from producer.exports import FORMATS, ExportHeader, write
from producer.output import standard_output
from storage.contract.errors import InvalidFile, OutputExists, StorageFull
from storage.outcomes import Page
from tests.producer.export_pages import job, pages


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, as a disk does that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def never() -> Iterator[Page]:
    raise AssertionError("work was done before the output was checked")
    yield


def pages_then(happening: BaseException) -> Iterator[Page]:
    yield from list(pages())[:2]
    raise happening


@pytest.mark.parametrize("format", FORMATS)
def test_a_new_file_is_all_there_is_afterwards(tmp_path: Path, format: str) -> None:
    assert write(job(), pages(), tmp_path / f"zoo.{format}") == 7
    assert names_in(tmp_path) == [f"zoo.{format}"]


def test_an_existing_file_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "zoo.npy").write_text("precious")
    with pytest.raises(OutputExists, match=r"zoo\.npy exists already.*--force"):
        write(job(), never(), tmp_path / "zoo.npy")
    assert (tmp_path / "zoo.npy").read_text() == "precious"


@pytest.mark.parametrize("format", FORMATS)
def test_an_existing_file_is_replaced_by_force(tmp_path: Path, format: str) -> None:
    (tmp_path / f"zoo.{format}").write_text("old")
    write(job(), pages(), tmp_path / f"zoo.{format}", force=True)
    assert (tmp_path / f"zoo.{format}").read_bytes() != b"old"
    assert names_in(tmp_path) == [f"zoo.{format}"]


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_appears_meanwhile_is_replaced_only_by_force(tmp_path: Path, force: bool) -> None:
    target = tmp_path / "zoo.jsonl"

    def slow_pages() -> Iterator[Page]:
        yield from pages()
        target.write_text("somebody was quicker")

    if force:
        write(job(), slow_pages(), target, force=True)
        assert target.read_text().count("\n") == 7
    else:
        with pytest.raises(OutputExists):
            write(job(), slow_pages(), target)
        assert target.read_text() == "somebody was quicker"
    assert names_in(tmp_path) == ["zoo.jsonl"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("happening", [KeyboardInterrupt(), RuntimeError("lightning"), OSError(errno.EIO, "database")])
def test_whatever_happens_the_old_file_stays_and_nothing_else(
    tmp_path: Path, format: str, happening: BaseException
) -> None:
    target = tmp_path / f"zoo.{format}"
    target.write_text("precious")
    with pytest.raises(type(happening)) as raised:
        write(job(), pages_then(happening), target, force=True)
    assert raised.value is happening
    assert target.read_text() == "precious"
    assert names_in(tmp_path) == [target.name]


@pytest.mark.parametrize("format", FORMATS)
def test_a_failed_export_leaves_no_new_file(tmp_path: Path, format: str) -> None:
    with pytest.raises(RuntimeError, match="lightning"):
        write(job(), pages_then(RuntimeError("lightning")), tmp_path / f"zoo.{format}")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [0, 150])
def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path: Path, format: str, size: int) -> None:
    target = tmp_path / f"zoo.{format}"
    target.write_text("precious")
    with room_for(size), pytest.raises(StorageFull, match=r"no room for .*zoo"):
        write(job(), pages(), target, force=True)
    assert target.read_text() == "precious"
    assert names_in(tmp_path) == [target.name]


@pytest.mark.parametrize("format", FORMATS)
def test_a_disk_that_fills_up_in_the_middle_is_told(tmp_path: Path, format: str) -> None:
    width, size, number = 1024, 500, 20
    blob = np.random.default_rng(1).standard_normal((size, width)).astype("<f4").tobytes()
    counts = np.full(size, 9, dtype=np.int32)

    def many() -> Iterator[Page]:
        for first in range(0, number * size, size):
            yield Page(first, size, "pending", width, "float32", blob, counts, counts, None)

    target = tmp_path / f"ants.{format}"
    header = ExportHeader("j", "m", number * size, width, "float32", False)
    with room_for(1_000_000), pytest.raises(StorageFull, match=r"no room for .*ants"):
        write(header, many(), target)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("format", ["jsonl", "npy", "arrow"])
def test_a_stream_on_a_full_device_is_told(format: str) -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(StorageFull, match="no room for the output"):
        write(job(), pages(), full, format)  # type: ignore[arg-type]


def test_a_stream_without_a_buffer_that_takes_a_part_of_the_last_bytes_is_told_full(tmp_path: Path) -> None:
    # Given a disk that has room for all but the last bytes, and a stream that tells so by a smaller number alone
    write(job(), pages(), tmp_path / "zoo.jsonl")
    size = (tmp_path / "zoo.jsonl").stat().st_size
    # When results are streamed there, then it is told
    with (
        open(tmp_path / "stream", "wb", buffering=0) as stream,
        room_for(size - 3),
        pytest.raises(StorageFull, match="no room for the output"),
    ):
        write(job(), pages(), stream, "jsonl")  # type: ignore[arg-type]


#: Writes a file, and is killed just before one is renamed.
DYING = """
import os, sys
from pathlib import Path
from producer.output import opened_output
sys.addaudithook(lambda event, _: os._exit(9) if event == "os.rename" else None)
with opened_output(Path(sys.argv[1]), force=False) as sink:
    sink.write(b"grain")
"""


def test_no_empty_file_is_left_under_the_name_by_one_that_is_killed(tmp_path: Path) -> None:
    target = tmp_path / "zoo.jsonl"
    subprocess.run([sys.executable, "-c", DYING, target], timeout=60)
    assert not target.exists() or target.read_bytes() == b"grain"


def test_a_reader_that_went_away_stays_a_broken_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as pipe, pytest.raises(BrokenPipeError):
        write(job(), pages(), pipe, "jsonl")  # type: ignore[arg-type]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"There is no folder .*nowhere"):
        write(job(), never(), tmp_path / "nowhere" / "zoo.npy")


def test_a_folder_is_no_place_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "zoo.npy").mkdir()
    with pytest.raises(InvalidFile, match="is a folder"):
        write(job(), never(), tmp_path / "zoo.npy", force=True)


def test_a_device_is_never_replaced() -> None:
    with pytest.raises(InvalidFile, match="no regular file"):
        write(job(), never(), Path("/dev/null"), "npy", force=True)
    assert Path("/dev/null").is_char_device()


def test_a_folder_that_takes_no_files_is_told() -> None:
    with pytest.raises(InvalidFile, match=r"/proc/zoo\.npy cannot be written"):
        write(job(), never(), Path("/proc/zoo.npy"))


def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_text("old")
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    write(job(), pages(), tmp_path / "link.jsonl", force=True)
    assert (tmp_path / "link.jsonl").is_symlink()
    assert (tmp_path / "real.jsonl").read_text().count("\n") == 7


def test_a_name_as_long_as_names_may_be_is_written(tmp_path: Path) -> None:
    name = "量" * 82 + ".jsonl"
    write(job(), pages(), tmp_path / name)
    assert names_in(tmp_path) == [name]


@pytest.mark.parametrize("format", ["jsonl", "npy", "arrow"])
def test_a_stream_gets_the_same_bytes_as_a_file_and_stays_open(tmp_path: Path, format: str) -> None:
    stream: BinaryIO = io.BytesIO()
    write(job(), pages(), stream, format)
    write(job(), pages(), tmp_path / f"zoo.{format}")
    assert stream.getvalue() == (tmp_path / f"zoo.{format}").read_bytes()  # type: ignore[attr-defined]


def test_the_file_may_be_read_as_any_new_file_may(tmp_path: Path) -> None:
    write(job(), pages(), tmp_path / "zoo.npy")
    (tmp_path / "plain").touch()
    assert (tmp_path / "zoo.npy").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_pipe_is_widened_as_far_as_it_goes() -> None:
    # Given a pipe whose reader takes all
    reading, writing = os.pipe()
    before = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    reader = subprocess.Popen(["cat"], stdin=reading, stdout=subprocess.DEVNULL)
    os.close(reading)
    # When results are streamed into it, then it has come to hold more
    with open(writing, "wb", buffering=0) as pipe:
        write(job(), pages(), pipe, "jsonl")  # type: ignore[arg-type]
        assert fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) > before
    assert reader.wait(60) == 0


def test_a_standard_output_that_is_closed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert standard_output() is sys.stdout.buffer
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(InvalidFile, match="is closed"):
        standard_output()
