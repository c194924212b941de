"""Lines of UTF-8 text out of blocks of bytes: in bulk for speed, yet every error names its line and byte."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from producer.sources import BLOCK_BYTES
from storage.contract.errors import InvalidFile

#: Bytes of the longest line that is read; a longer one is passed over without being kept. At least `BLOCK_BYTES`.
MAX_LINE_BYTES = 16 * BLOCK_BYTES

TOO_LONG = f"line longer than {MAX_LINE_BYTES >> 20} MiB"

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Lines(NamedTuple):
    """A run of consecutive lines.

    Args:
        first: Number of the first one, from 1.
        texts: The lines without their newline (a carriage return before it is kept); None is one too long to keep.
    """

    first: int
    texts: list[str | None]


def decoded_lines(blocks: Iterable[bytes], name: str) -> Iterator[Lines]:
    """Yield the lines of `blocks`, without a byte order mark at the start; a final newline makes no further line.

    Args:
        blocks: The bytes, cut anywhere, none longer than `MAX_LINE_BYTES`.
        name: What messages call the input.

    Raises:
        InvalidFile: When a line is not UTF-8, with its line and byte, or lines end in a carriage return alone.
    """
    number = 1
    for offset, piece in whole_lines(_with_newlines(blocks, name)):
        texts: list[str | None] = [None] if piece is None else _decoded(piece, number, offset, name)
        yield Lines(number, texts)
        number += len(texts)


def whole_lines(blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Yield runs of whole lines, each with its offset in bytes; None stands for one line that is too long.

    Args:
        blocks: The bytes, cut anywhere, none longer than `MAX_LINE_BYTES`.
    """
    offset, dropped, held = 0, 0, bytearray()
    for block in blocks:
        end = block.find(b"\n") + 1
        if dropped and not end:
            dropped += len(block)
            continue
        if dropped or (end and len(held) + end > MAX_LINE_BYTES + 1):
            yield offset, None
            offset += dropped + len(held) + end
            dropped, block = 0, block[end:]
            held.clear()
        last = block.rfind(b"\n") + 1
        if last:
            piece = bytes(held) + block[:last]
            yield offset, piece
            offset += len(piece)
            held = bytearray(block[last:])
        else:
            held += block
        if len(held) > MAX_LINE_BYTES:
            dropped = len(held)
            held.clear()
    if dropped:
        yield offset, None
    elif held:
        yield offset, bytes(held)


def stray_returns(message: str) -> InvalidFile:
    """Return what is raised where lines end in a carriage return alone, as old Macs and some tables have it.

    Args:
        message: Where they do.
    """
    return InvalidFile(message, "Convert it first: tr '\\r' '\\n' < OLD > NEW.")


def _with_newlines(blocks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Pass blocks on, and refuse at their end an input of many lines that would be read as a single one."""
    newline = returned = False
    last = b""
    for block in blocks:
        if not newline:
            newline = b"\n" in block
            returned = returned or last == b"\r" or b"\r" in block[:-1]
            last = block[-1:]
        yield block
    if returned and not newline:
        raise stray_returns(f"The lines of {name} end in a carriage return (CR) alone, without a newline (LF).")


def _decoded(piece: bytes, number: int, offset: int, name: str) -> list[str | None]:
    if offset == 0 and piece.startswith(codecs.BOM_UTF8):
        offset = len(codecs.BOM_UTF8)
        piece = piece[offset:]
    try:
        texts: list[str | None] = [*piece.decode().split("\n")]
    except UnicodeDecodeError as error:
        raise _not_utf8(piece, number, offset, name, error) from None
    if texts[-1] == "":
        texts.pop()
    return texts


def _not_utf8(piece: bytes, number: int, offset: int, name: str, error: UnicodeDecodeError) -> InvalidFile:
    """Say where the first bad byte is, and leave out the cause, which holds the texts around it."""
    line = number + piece.count(b"\n", 0, error.start)
    within = error.start - (piece.rfind(b"\n", 0, error.start) + 1)
    place = f"byte {within + 1} of the line, {offset + error.start + 1} of the input"
    message = f"Line {line} of {name} is not UTF-8 ({place})."
    if offset == 0 and piece.startswith(_UTF16_MARKS):
        return InvalidFile(message, "It looks like UTF-16; convert it first: iconv -f UTF-16 -t UTF-8.")
    return InvalidFile(message, "Convert it first, for example from Latin-1: iconv -f LATIN1 -t UTF-8.")
