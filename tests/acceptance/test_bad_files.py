"""Files that are missing, empty, damaged or strange: told with their name, and nothing is submitted."""

from __future__ import annotations

import gzip

import numpy as np

from tests.acceptance.shell import Shell


def test_a_file_that_cannot_be_read_is_named_and_nothing_is_submitted(alone: Shell) -> None:
    # Given files of every bad kind
    (alone.cwd / "folder.txt").mkdir()
    alone.write("empty.txt", b"")
    alone.write("latin.txt", b"fine\nca" + "fé".encode("latin-1") + b"\n")
    alone.write("table.csv", "title,body\na,b\n")
    alone.write("cut.txt.gz", gzip.compress(b"a text\n" * 1000)[:-12])
    cases = {
        "There is no file missing.txt": ["missing.txt"],
        "folder.txt is a folder": ["folder.txt"],
        "empty.txt is empty": ["empty.txt"],
        "Line 2 of latin.txt is not UTF-8 (byte 4 of the line, 9 of the input)": ["latin.txt"],
        "'text'": ["table.csv"],
        "cut.txt.gz is cut off": ["cut.txt.gz"],
    }
    # When each is submitted
    ran = alone.together([("submit", *words) for words in cases.values()])
    # Then the trouble is told, in a sentence, with exit code 2, and no row of it is left
    for sentence, one in zip(cases, ran, strict=True):
        assert (one.code, one.out) == (2, ""), (sentence, one)
        assert sentence in one.err and "Traceback" not in one.err, (sentence, one)
    assert alone.rows() == (0, 0, 0)


def test_standard_input_without_a_text_is_refused(alone: Shell) -> None:
    # Given nothing on standard input, when submitted
    ran = alone("submit", "-", stdin=b"")
    # Then that is told
    assert (ran.code, ran.out) == (2, "") and "standard input is empty" in ran.err


def test_a_byte_order_mark_and_carriage_returns_change_nothing(shell: Shell) -> None:
    # Given the same texts as Windows and as Unix write them
    shell.write("windows.txt", b"\xef\xbb\xbfthe mill\r\nthe river\r\n")
    shell.write("unix.txt", b"the mill\nthe river\n")
    # When both are embedded
    ran = shell.together([("embed", f"{name}.txt", "-o", f"{name}.npz") for name in ("windows", "unix")])
    assert [one.code for one in ran] == [0, 0]
    # Then tokens and vectors are the same
    windows, unix = (np.load(shell.cwd / f"{name}.npz") for name in ("windows", "unix"))
    np.testing.assert_array_equal(windows["tokens"], unix["tokens"])
    np.testing.assert_allclose(windows["vectors"], unix["vectors"], atol=1e-6)
