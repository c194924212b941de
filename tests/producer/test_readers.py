"""Which format is read, and records out of txt and jsonl."""

import io
from pathlib import Path

import pytest

from producer.readers import FORMATS, read
from producer.records import Record
from storage.contract.errors import InvalidFile, InvalidOption


def jsonl(content: str, **options: str) -> list[Record]:
    return list(read(io.BytesIO(content.encode()), format="jsonl", **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["notes.txt", "NOTES.TXT"])
def test_a_txt_file_has_one_text_a_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("I ate the clock.\n\n时钟很好吃。\n")
    assert list(read(str(tmp_path / name))) == [
        Record("I ate the clock.", None, "line 1"),
        Record("", None, "line 2"),
        Record("时钟很好吃。", None, "line 3"),
    ]


@pytest.mark.parametrize("name", ["clocks.jsonl", "clocks.ndjson"])
def test_a_jsonl_file_has_one_object_a_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"text": "tick", "id": "a"}\r\n {"id": "b", "text": "t\\u00f6ck\\n"} ')
    assert list(read(tmp_path / name, id_field="id")) == [
        Record("tick", "a", "line 1"),
        Record("töck\n", "b", "line 2"),
    ]


def test_ids_are_taken_only_where_they_are_asked_for() -> None:
    assert jsonl('{"text": "tick", "id": "a"}') == [Record("tick", None, "line 1")]


def test_fields_go_by_the_names_that_are_given() -> None:
    line = '{"body": "tick", "key": "a", "text": "no", "id": "no"}'
    assert jsonl(line, text_field="body", id_field="key") == [Record("tick", "a", "line 1")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "blank line"),
        ("  \t", "blank line"),
        ("tick", "no JSON object (not JSON at character 1)"),
        ('  {"text": tick}', "no JSON object (not JSON at character 12)"),
        ('{"text": "tick"} tock', "no JSON object (not JSON at character 17)"),
        ('{"text": "tick"', "no JSON object (not JSON at character 16)"),
        ('["tick"]', "no JSON object"),
        ('"tick"', "no JSON object"),
        ("null", "no JSON object"),
        ('{"n": ' + "9" * 5000 + "}", "no JSON object (a number is too long)"),
        ('{"text": ' + "[" * 200_000 + "]" * 200_000 + "}", "no JSON object (nested too deeply)"),
        ("{}", "missing field 'text'"),
        ('{"text": "tick"}', "missing field 'id'"),
        ('{"Text": "tick", "id": "a"}', "missing field 'text'"),
    ],
)
def test_a_line_without_a_text_is_a_problem_and_the_next_one_is_read(line: str, problem: str) -> None:
    bad, good = jsonl(line + '\n{"text": "tock", "id": "b"}\n', id_field="id")
    assert bad == Record(None, None, "line 1", problem)
    assert good == Record("tock", "b", "line 2")


@pytest.mark.parametrize(("value", "text"), [("null", None), ("7", 7), ('["a"]', ["a"]), ('"\\ud800"', "\ud800")])
def test_what_stands_where_the_text_should_be_is_left_to_be_judged(value: str, text: object) -> None:
    assert jsonl(f'{{"text": {value}}}') == [Record(text, None, "line 1")]


@pytest.mark.parametrize(
    ("value", "custom_id"),
    [("7", "7"), ("-12345678901234567890", "-12345678901234567890"), ("true", True), ("1.5", 1.5), ("null", None)],
)
def test_whole_numbers_are_ids_and_other_values_are_left_to_be_judged(value: str, custom_id: object) -> None:
    [record] = jsonl(f'{{"text": "tick", "id": {value}}}', id_field="id")
    assert record.id == custom_id
    assert type(record.id) is type(custom_id)


def test_of_repeated_keys_the_last_one_counts() -> None:
    assert jsonl('{"text": "tick", "text": "tock"}') == [Record("tock", None, "line 1")]


@pytest.mark.parametrize(
    ("format", "content"), [*((format, b"") for format in FORMATS), ("txt", b"\xef\xbb\xbf"), ("csv", b"\xef\xbb\xbf")]
)
def test_an_empty_file_is_refused(tmp_path: Path, format: str, content: bytes) -> None:
    path = tmp_path / f"nothing.{format}"
    path.write_bytes(content)
    with pytest.raises(InvalidFile, match=r"nothing\.\w+ is empty"):
        list(read(path))


@pytest.mark.parametrize("name", ["notes.docx", "notes", "notes.gz", "notes.json.zst"])
def test_an_unknown_ending_lists_the_formats_and_the_flag(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("tick\n")
    with pytest.raises(InvalidFile, match=r"txt, jsonl, csv, tsv, parquet .*--format"):
        list(read(tmp_path / name))


def test_a_named_format_comes_before_the_ending(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("tick\n")
    assert list(read(tmp_path / "notes.csv", format="txt")) == [Record("tick", None, "line 1")]


def test_a_missing_file_is_told_before_its_unknown_ending(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="There is no file"):
        read(tmp_path / "nowhere.docx")


def test_an_unknown_format_lists_the_known_ones() -> None:
    with pytest.raises(InvalidOption, match="txt, jsonl, csv, tsv, parquet, not 'xml'"):
        read(io.BytesIO(b"tick"), format="xml")


def test_a_stream_is_txt_unless_said_otherwise() -> None:
    assert list(read(io.BytesIO(b'{"text": "tick"}\n'))) == [Record('{"text": "tick"}', None, "line 1")]


def test_a_txt_file_has_no_ids() -> None:
    with pytest.raises(InvalidOption, match="has no ids"):
        read(io.BytesIO(b"tick"), id_field="id")


@pytest.mark.parametrize("field", ["text", "body"])
def test_a_txt_input_has_no_fields_and_asking_for_them_is_refused_before_it_is_read(field: str) -> None:
    with pytest.raises(InvalidOption, match=r"no fields.*--format jsonl, csv"):
        read(io.BytesIO(b'{"text": "tick"}\n'), text_field=field)
    # Given the format, the same is read
    assert [one.text for one in read(io.BytesIO(b'{"body": "tick"}\n'), format="jsonl", text_field="body")] == ["tick"]


@pytest.mark.parametrize("format", ["txt", "tsv", "jsonl", "parquet"])
def test_a_delimiter_is_a_csv_files_alone(format: str) -> None:
    with pytest.raises(InvalidOption, match=rf"{format} has none to choose"):
        read(io.BytesIO(b"tick"), format=format, delimiter=";")


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n", "\r", "\0", " "])
def test_what_can_be_no_delimiter_is_refused(delimiter: str) -> None:
    with pytest.raises(InvalidOption, match="A delimiter is one character"):
        read(io.BytesIO(b"tick"), format="csv", delimiter=delimiter)
