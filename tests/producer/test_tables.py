"""Records out of csv and tsv."""

import io
from pathlib import Path

import pytest

from producer.readers import read
from producer.records import Record
from storage.contract.errors import InvalidFile


def csv_records(content: str | bytes, **options: str) -> list[Record]:
    data = content.encode() if isinstance(content, str) else content
    return list(read(io.BytesIO(data), **{"format": "csv", **options}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "delimiter"), [("cats.csv", ","), ("cats.tsv", "\t")])
def test_a_table_is_read_by_its_header(tmp_path: Path, name: str, delimiter: str) -> None:
    rows = [["name", "text", "lives"], ["Tom", "chases, always", "9"], ["咪咪", "睡觉", "8"]]
    quoted = [delimiter.join(f'"{cell}"' if "," in cell else cell for cell in row) for row in rows]
    (tmp_path / name).write_text("\n".join(quoted) + "\n")
    assert list(read(tmp_path / name, id_field="name")) == [
        Record("chases, always", "Tom", "line 2"),
        Record("睡觉", "咪咪", "line 3"),
    ]
    assert [record.id for record in read(tmp_path / name)] == [None, None]


def test_quoted_fields_hold_newlines_and_a_row_is_named_by_its_first_line() -> None:
    content = 'text,n\n"one\n\ntwo ""three""\n",1\n"four\r\nfive",2\nsix,3\n'
    assert csv_records(content) == [
        Record('one\n\ntwo "three"\n', None, "line 2"),
        Record("four\r\nfive", None, "line 6"),
        Record("six", None, "line 8"),
    ]


def test_a_byte_order_mark_and_crlf_are_fine() -> None:
    assert csv_records(b"\xef\xbb\xbftext,n\r\nmeow,1\r\n") == [Record("meow", None, "line 2")]


def test_rows_of_another_width_are_problems() -> None:
    short, blank, long, good = csv_records("text,n,m\nmeow,1\n\na,b,c,d\nmeow,1,2\n")
    assert short == Record(None, None, "line 2", "2 fields, where the header has 3")
    assert blank == Record(None, None, "line 3", "blank line")
    assert long == Record(None, None, "line 4", "4 fields, where the header has 3")
    assert good == Record("meow", None, "line 5")


def test_a_missing_column_names_those_there_are() -> None:
    with pytest.raises(InvalidFile, match=r"no column 'text'; it has: 'name', ' text'\. .*--text-field"):
        csv_records("name, text\nTom,meow\n")
    with pytest.raises(InvalidFile, match=r"no column 'id'; it has: 'name', 'text'\. .*--id-field"):
        csv_records("name,text\nTom,meow\n", id_field="id")


def test_a_missing_header_row_is_not_printed_at_length() -> None:
    with pytest.raises(InvalidFile, match="and 30 more") as raised:
        csv_records(",".join(f"{n} {'secret' * 20}" for n in range(50)) + "\n")
    assert len(str(raised.value)) < 1500


def test_a_repeated_column_is_refused() -> None:
    with pytest.raises(InvalidFile, match="repeats a column: 'text'"):
        csv_records("text,id,text\na,b,c\n")


def test_a_header_without_rows_is_empty() -> None:
    with pytest.raises(InvalidFile, match="is empty"):
        csv_records("text,id\n")


@pytest.mark.parametrize(
    ("content", "line"), [('text\nfine\n"never\nclosed\n', 4), ('text\nfine\n"closed" too early\n', 3)]
)
def test_broken_quoting_is_refused_with_its_line(content: str, line: int) -> None:
    with pytest.raises(InvalidFile, match=f"broken as a table at line {line}"):
        csv_records(content)


def test_fields_longer_than_pythons_own_limit_are_read() -> None:
    text = "meow " * 100_000
    assert csv_records(f"text\n{text}\n")[0].text == text


def test_a_line_longer_than_the_limit_is_refused() -> None:
    with pytest.raises(InvalidFile, match="Line 2 of the input cannot be read: line longer than 16 MiB"):
        csv_records("text\n" + "x" * (17 << 20) + "\n")


def test_a_field_longer_than_the_limit_is_refused() -> None:
    with pytest.raises(InvalidFile, match="field larger than field limit"):
        csv_records('text\n"' + "meow meow meow\n" * (18 << 16) + '"\n')


def test_a_bad_byte_is_named_by_its_line() -> None:
    with pytest.raises(InvalidFile, match="Line 3 of the input is not UTF-8"):
        csv_records(b"text\nmeow\ncaf\xe9\n")


@pytest.mark.parametrize(
    ("content", "remedy"), [("id;text\n1;hello\n", "--delimiter ';'"), ("id\ttext\n1\thello\n", "--format tsv")]
)
def test_a_table_that_is_separated_by_something_else_is_told_as_such(content: str, remedy: str) -> None:
    # Given a table as Excel writes it in Europe, when it is read as a csv, then it is said what to do
    with pytest.raises(InvalidFile, match="looks separated by") as raised:
        csv_records(content)
    assert raised.value.remedy is not None and remedy in raised.value.remedy


@pytest.mark.parametrize(("delimiter", "between"), [(";", ";"), ("|", "|"), ("\t", "\t"), ("\\t", "\t"), ("؛", "؛")])
def test_a_csv_may_be_separated_by_any_character(delimiter: str, between: str) -> None:
    content = f'id{between}text\n1{between}"hello, {between} you"\n'
    assert csv_records(content, delimiter=delimiter, id_field="id") == [Record(f"hello, {between} you", "1", "line 2")]


def test_one_column_whose_name_was_asked_for_is_read() -> None:
    assert csv_records("a;text\nhello\n", text_field="a;text") == [Record("hello", None, "line 2")]


@pytest.mark.parametrize("first", ["", " ", ",,"])
def test_an_empty_line_where_the_header_should_be_is_named(first: str) -> None:
    with pytest.raises(InvalidFile, match=r"Line 1 of the input is empty.*Remove that line"):
        csv_records(f"{first}\nid,text\n1,hello\n")


def test_a_carriage_return_that_ends_a_row_is_named_with_what_helps() -> None:
    # Given a table as Excel for Mac writes it: its rows end in a carriage return, lines in its cells in a newline
    content = 'id,text\r1,"two\nlines"\r'
    with pytest.raises(InvalidFile, match=r"carriage return \(CR\) outside of quote marks.*tr "):
        csv_records(content)
    assert csv_records(content.replace("\r", "\n")) == [Record("two\nlines", None, "line 2")]
