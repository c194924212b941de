"""Lines out of bytes: newlines, marks, bad bytes, lines without end."""

import io
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest

from producer.decoding import MAX_LINE_BYTES, decoded_lines
from producer.readers import read
from producer.sources import BLOCK_BYTES
from storage.contract.errors import InvalidFile


def texts_of(content: bytes) -> list[object]:
    return [record.text for record in read(io.BytesIO(content))]


def lines_of(blocks: Iterable[bytes]) -> list[tuple[int, str | None]]:
    return [pair for run in decoded_lines(blocks, "the song") for pair in enumerate(run.texts, run.first)]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"la\nli\n", ["la", "li"]),
        (b"la\nli", ["la", "li"]),
        (b"la\r\nli\r\n", ["la", "li"]),
        (b"\xef\xbb\xbfla\nli\n", ["la", "li"]),
        (b"la\n\nli\n\n", ["la", "", "li", ""]),
        (b"\n", [""]),
        (b"a\x0bb\x0cc\rd\xc2\x85e\xe2\x80\xa8f\x00\n", ["a\x0bb\x0cc\rd\x85e\u2028f\x00"]),
        ("向量\n🦔\n".encode(), ["向量", "🦔"]),
        (b"la\n\xef\xbb\xbfli\n", ["la", "\ufeffli"]),
    ],
)
def test_a_line_ends_at_a_newline_and_nowhere_else(content: bytes, texts: list[str]) -> None:
    assert texts_of(content) == texts


def test_lines_are_whole_and_numbered_however_the_bytes_are_cut() -> None:
    content = "one\n两个\n\nthree 🦔\r\nfour".encode()
    expected = list(enumerate(["one", "两个", "", "three 🦔\r", "four"], 1))
    for size in range(1, len(content) + 1):
        assert lines_of(content[at : at + size] for at in range(0, len(content), size)) == expected


@pytest.mark.parametrize("before", [0, 3, 200_000])
def test_a_byte_that_is_not_utf8_is_named_by_line_and_byte(before: int) -> None:
    content = b"fine line\n" * before + b"caf\xe9 noir\nfine again\n"
    place = rf"Line {before + 1} of the input is not UTF-8 \(byte 4 of the line, {before * 10 + 4} of the input\)"
    with pytest.raises(InvalidFile, match=place) as raised:
        texts_of(content)
    assert "noir" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_the_byte_order_mark_counts_as_bytes_of_the_input() -> None:
    with pytest.raises(InvalidFile, match=r"Line 2 .*\(byte 1 of the line, 7 of the input\)"):
        texts_of(b"\xef\xbb\xbfla\n\xff\n")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_recognised(encoding: str) -> None:
    with pytest.raises(InvalidFile, match="looks like UTF-16"):
        texts_of("\ufeffhello\n".encode(encoding))


def test_a_character_cut_off_at_the_end_is_not_utf8() -> None:
    with pytest.raises(InvalidFile, match="Line 2 "):
        texts_of(b"la\n" + "量".encode()[:2])


@pytest.mark.parametrize("format", ["txt", "jsonl"])
def test_a_line_too_long_is_a_problem_and_the_next_one_is_read(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"long.{format}"
    short = '{"text": "short"}'
    with path.open("w") as file:
        file.write(f"{short}\n")
        for _ in range(40):
            file.write("x" * BLOCK_BYTES)
        file.write(f"\n{short}\n")
    first, long, last = read(path)
    assert long.problem == "line longer than 16 MiB"
    assert (first.where, long.where, last.where) == ("line 1", "line 2", "line 3")
    assert first.text == last.text == (short if format == "txt" else "short")


def test_a_line_without_end_takes_no_more_memory_than_the_limit() -> None:
    tracemalloc.start()
    lines = lines_of(b"x" * BLOCK_BYTES for _ in range(200))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert lines == [(1, None)]
    assert peak < 3 * MAX_LINE_BYTES


@pytest.mark.parametrize("rest", [b"", b"\n", b"\nli", b"\nli\n"])
def test_the_limit_is_exact(rest: bytes) -> None:
    after = [(2, "li")] if b"li" in rest else []
    blocks = [b"x" * BLOCK_BYTES] * (MAX_LINE_BYTES // BLOCK_BYTES)
    longest = "x" * MAX_LINE_BYTES
    assert lines_of([*blocks, rest]) == [(1, longest), *after]
    assert lines_of([*blocks, b"x" + rest]) == [(1, None), *after]
    assert lines_of([*blocks, b"x", rest]) == [(1, None), *after]


@pytest.mark.parametrize("blocks", [16, 20])
def test_places_stay_right_behind_a_line_too_long(blocks: int) -> None:
    content = [b"la\n", *[b"x" * BLOCK_BYTES] * blocks, b"x\nli\n\xff\n"]
    place = rf"Line 4 .*\(byte 1 of the line, {3 + blocks * BLOCK_BYTES + 6} of the input\)"
    with pytest.raises(InvalidFile, match=place):
        lines_of(content)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_that_end_in_a_carriage_return_alone_are_refused(size: int) -> None:
    # Given a file as old Macs wrote them, when it is read, however it is cut, then it is not one text
    song = b"text\rla\rli\r"
    with pytest.raises(InvalidFile, match=r"carriage return \(CR\) alone.*tr '\\r' '\\n'"):
        lines_of(song[at : at + size] for at in range(0, len(song), size))
    # Nor a table, and what is advised makes lines of it
    with pytest.raises(InvalidFile, match="alone"):
        list(read(io.BytesIO(song), format="csv"))
    assert texts_of(b"text\rla\rli\r".replace(b"\r", b"\n")) == ["text", "la", "li"]


def test_a_carriage_return_within_a_text_and_one_at_the_end_stay_what_they_are() -> None:
    assert texts_of(b"la\rla\nli") == ["la\rla", "li"]
    assert texts_of(b"la\r") == ["la"]
