"""Opening what texts come from, and unpacking it."""

import bz2
import gzip
import io
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from producer import sources
from producer.readers import read
from storage.contract.errors import InvalidFile

TEXTS = [f"the crunchy armchair number {number} 脆脆的扶手椅" for number in range(5_000)]
ROOT = Path(__file__).parents[2]
PLAIN = "\n".join(TEXTS).encode()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Put aside root's right to read everything, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"There is no file .*nowhere\.txt"):
        list(read(tmp_path / "nowhere.txt"))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="is a folder"):
        list(read(tmp_path, format="txt"))


def test_a_file_that_may_not_be_read_is_told_from_a_missing_one(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("nobody reads me\n")
    secret.chmod(0)
    with as_nobody(), pytest.raises(InvalidFile, match="may not be read by this user"):
        list(read(secret))


def test_a_file_that_fails_while_it_is_read_is_named() -> None:
    with pytest.raises(InvalidFile, match="/proc/self/mem cannot be read"):
        list(read("/proc/self/mem", format="txt"))


@pytest.mark.parametrize("ending", [".gz", ".zst", ".GZ"])
def test_packed_files_are_unpacked_by_their_ending(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"armchairs.txt{ending}"
    path.write_bytes(zstandard.compress(PLAIN) if ending == ".zst" else gzip.compress(PLAIN))
    assert [record.text for record in read(path)] == TEXTS


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_packed_files_of_several_members_are_read_to_the_end(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    path = tmp_path / "two.txt.gz"
    path = path.with_suffix(".zst") if pack is zstandard.compress else path
    path.write_bytes(pack(PLAIN + b"\n") + pack(b"and one more"))
    assert [record.text for record in read(path)] == [*TEXTS, "and one more"]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_packed_stream_is_known_by_its_first_bytes(pack: object) -> None:
    assert callable(pack)
    assert [record.text for record in read(io.BytesIO(pack(PLAIN)))] == TEXTS


class Dripping(io.RawIOBase):
    """A stream that gives one byte at a time, as a slow connection may."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._content.read(1)


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbfbit\nby\nbit", gzip.compress(b"bit\nby\nbit"), b"bit\nby\nbit\n"],
    ids=["marked", "packed", "plain"],
)
def test_a_stream_that_drips_is_read_like_any_other(content: bytes) -> None:
    assert [record.text for record in read(Dripping(content))] == ["bit", "by", "bit"]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("keep", [5, 60, -1])
def test_a_packed_file_that_is_cut_off_is_refused(tmp_path: Path, kind: str, keep: int) -> None:
    packed = gzip.compress(PLAIN) if kind == "gz" else zstandard.compress(PLAIN)
    path = tmp_path / f"half.txt.{kind}"
    path.write_bytes(packed[:keep])
    with pytest.raises(InvalidFile, match="cut off"):
        list(read(path))


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_packed_file_with_a_damaged_byte_is_refused(tmp_path: Path, kind: str) -> None:
    packed = bytearray(
        gzip.compress(PLAIN) if kind == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress(PLAIN)
    )
    packed[len(packed) // 2] ^= 0xFF
    path = tmp_path / f"damaged.txt.{kind}"
    path.write_bytes(packed)
    with pytest.raises(InvalidFile, match="damaged"):
        list(read(path))


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_file_that_is_not_packed_as_its_ending_says_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"other.txt.{kind}"
    path.write_bytes(bz2.compress(b"neither gzip nor zstd"))
    with pytest.raises(InvalidFile, match=r"is no (gzip|zstd) file"):
        list(read(path))


def test_a_small_packed_file_that_grows_huge_comes_in_small_blocks(tmp_path: Path) -> None:
    path = tmp_path / "bomb.txt.zst"
    path.write_bytes(zstandard.compress(b"\n" * (300 << 20)))
    tracemalloc.start()
    with sources.opened(path) as stream:
        sizes = [len(block) for block in sources.blocks(stream, path)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(sizes) == 300 << 20
    assert max(sizes) <= sources.BLOCK_BYTES
    assert peak < 100 << 20


@pytest.mark.parametrize("content", [PLAIN, gzip.compress(PLAIN)])
def test_a_dash_is_standard_input(content: bytes) -> None:
    script = "from producer.readers import read; print(sum(1 for _ in read('-')))"
    done = subprocess.run([sys.executable, "-c", script], input=content, capture_output=True, cwd=ROOT)
    assert done.stdout.decode().split() == [str(len(TEXTS))], done.stderr.decode()


def test_closed_standard_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InvalidFile, match="Standard input is closed"):
        list(read("-"))


def test_a_stream_that_was_given_stays_open() -> None:
    stream = io.BytesIO(b"one\ntwo\n")
    list(read(stream))
    assert not stream.closed
