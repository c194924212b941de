"""Bytes of a file, a stream or standard input, unpacked, block by block; knows nothing of what they mean."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import zstandard

from storage.contract.errors import InvalidFile

#: Most bytes of one block. Larger costs memory, smaller costs speed.
BLOCK_BYTES = 1 << 20

#: Compressed bytes unpacked in one step. zstd can grow bytes 32,000-fold, so this bounds what a hostile file takes.
ZSTD_STEP_BYTES = 1 << 10

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
COMPRESSED_ENDINGS = (".gz", ".zst")

Source = str | Path | BinaryIO


def source_path(source: Source) -> Path | None:
    """Return the file that `source` names, or None when it is a stream; `-` is standard input."""
    if isinstance(source, str | Path):
        return None if str(source) == "-" else Path(source)
    return None


def source_name(source: Source) -> str:
    """Return what messages call `source`."""
    if isinstance(source, str | Path):
        return "standard input" if str(source) == "-" else str(source)
    return "the input"


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """Open `source` for reading bytes; a stream that was given stays open afterwards.

    Raises:
        InvalidFile: When there is no such file, it is a folder, or it may not be read.
    """
    path = source_path(source)
    if path is None:
        yield source if not isinstance(source, str | Path) else _standard_input()
        return
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise InvalidFile(f"There is no file {path}.") from error
    except IsADirectoryError as error:
        raise InvalidFile(f"{path} is a folder, not a file.", "Name one file in it.") from error
    except PermissionError as error:
        raise InvalidFile(f"{path} may not be read by this user.", "Check its permissions.") from error
    except OSError as error:
        raise InvalidFile(f"{path} cannot be opened: {error.strerror}.") from error
    with file:
        yield file


def blocks(stream: BinaryIO, source: Source) -> Iterator[bytes]:
    """Yield the bytes of `stream`, unpacked when its first bytes or its file's ending say gzip or zstd.

    No text in UTF-8 begins with either's first bytes, so nothing is unpacked by mistake.

    Args:
        stream: What `opened` gave.
        source: What it was opened from, for messages and the ending.

    Raises:
        InvalidFile: When reading fails, or compressed bytes are damaged, cut off or of another kind than the ending.
    """
    name, path = source_name(source), source_path(source)
    ending = path.suffix.lower() if path else ""
    raw = _raw_blocks(stream, name)
    first = next(raw, b"")
    if not first:
        return
    if ending == ".gz" or first.startswith(GZIP_MAGIC):
        yield from _gunzipped(first, raw, name)
    elif ending == ".zst" or first.startswith(ZSTD_MAGIC):
        yield from _unzstd(first, raw, name)
    else:
        yield first
        yield from raw


def is_packed(stream: BinaryIO) -> bool:
    """Tell whether `blocks` would unpack what is in a stream, which must be at its beginning, and stays there.

    Args:
        stream: One that can be read again.
    """
    first = stream.read(len(ZSTD_MAGIC))
    stream.seek(0)
    return first.startswith((GZIP_MAGIC, ZSTD_MAGIC))


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise InvalidFile("Standard input is closed.", "Pipe texts into it, or name a file.")
    return sys.stdin.buffer


def _raw_blocks(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield what `stream` gives; the first block holds at least four bytes, if there are as many, to be told by."""
    try:
        first = b""
        while len(first) < len(ZSTD_MAGIC) and (block := stream.read(BLOCK_BYTES)):
            first += block
        yield first
        while block := stream.read(BLOCK_BYTES):
            yield block
    except OSError as error:
        raise InvalidFile(f"{name} cannot be read: {error.strerror or type(error).__name__}.") from error


def _gunzipped(first: bytes, rest: Iterator[bytes], name: str) -> Iterator[bytes]:
    member = zlib.decompressobj(wbits=31)
    try:
        for block in _chained(first, rest):
            while block:
                if member.eof:
                    block = block.lstrip(b"\0")  # gzip allows zeros as padding behind a member
                    if not block:
                        break
                    member = zlib.decompressobj(wbits=31)
                unpacked = member.decompress(block, BLOCK_BYTES)
                block = member.unused_data if member.eof else member.unconsumed_tail
                if unpacked:
                    yield unpacked
    except zlib.error as error:
        raise InvalidFile(f"{name} is no gzip file, or a damaged one.", "Unpack it with gzip to see.") from error
    if not member.eof:
        raise _cut_off(name, "gzip")


def _unzstd(first: bytes, rest: Iterator[bytes], name: str) -> Iterator[bytes]:
    unpacker = zstandard.ZstdDecompressor()
    frame = unpacker.decompressobj()
    unpacked = bytearray()
    try:
        for block in _chained(first, rest):
            for start in range(0, len(block), ZSTD_STEP_BYTES):
                step = block[start : start + ZSTD_STEP_BYTES]
                while step:
                    if frame.eof:
                        frame = unpacker.decompressobj()
                    unpacked += frame.decompress(step)
                    step = frame.unused_data if frame.eof else b""
                yield from _drained(unpacked, BLOCK_BYTES)
    except zstandard.ZstdError as error:
        raise InvalidFile(f"{name} is no zstd file, or a damaged one.", "Unpack it with zstd to see.") from error
    if not frame.eof:
        raise _cut_off(name, "zstd")
    yield from _drained(unpacked, 1)


def _drained(held: bytearray, least: int) -> Iterator[bytes]:
    """Take blocks out of `held` as long as it has at least `least` bytes."""
    while len(held) >= least:
        yield bytes(held[:BLOCK_BYTES])
        del held[:BLOCK_BYTES]


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _cut_off(name: str, kind: str) -> InvalidFile:
    return InvalidFile(f"{name} is cut off: its {kind} data ends too early.", "Fetch or make the file again.")
