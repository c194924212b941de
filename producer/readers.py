"""Records out of files, streams and standard input, one by one, in constant memory for input of any length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from producer.arrow import arrow_module
from producer.decoding import TOO_LONG, Lines, decoded_lines
from producer.jsonvalues import NotJSON, json_value
from producer.parquet import parquet_records
from producer.records import Record
from producer.sources import COMPRESSED_ENDINGS, Source, blocks, opened, source_name, source_path
from producer.tables import table_records
from storage.contract.errors import InvalidFile, InvalidOption

FORMATS = ("txt", "jsonl", "csv", "tsv", "parquet")

_ENDINGS = {".txt": "txt", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
_DELIMITERS = {"csv": ",", "tsv": "\t"}

#: What cannot stand between two fields.
_NO_DELIMITERS = '"\r\n \0'


def read(
    source: Source,
    *,
    format: str | None = None,
    text_field: str | None = None,
    id_field: str | None = None,
    delimiter: str | None = None,
) -> Iterator[Record]:
    """Yield what stands where items should be; what is no text becomes a record with a problem, not an exception.

    Args:
        source: A file (gzip and zstd are unpacked), `-` for standard input, or a binary stream.
        format: One of `FORMATS`; None goes by the file's ending, and takes a stream as txt.
        text_field: Field, or column, that holds the texts; None means `text`. A txt file has none.
        id_field: Field, or column, that holds the caller's ids; None means that there are no ids.
        delimiter: What stands between two fields of a csv file; None means a comma.

    Raises:
        InvalidFile: When the input is missing, empty, damaged, not UTF-8, of unknown format, or lacks a column.
        InvalidOption: When `format` is unknown, a field is named for a txt file, or a delimiter cannot be one.
        MissingExtra: When a Parquet file is read and pyarrow is not installed.
    """
    chosen = _chosen_format(source, format)
    if chosen == "txt" and id_field is not None:
        raise InvalidOption("A txt file has no ids, but an id field was given.", "Use jsonl, csv, tsv or parquet.")
    if chosen == "txt" and text_field is not None:
        raise InvalidOption(
            "A txt input has no fields, but a text field was given.",
            "Name the format: --format jsonl, csv, tsv or parquet.",
        )
    delimiter = _chosen_delimiter(chosen, delimiter)
    if chosen == "parquet":
        arrow_module("pyarrow")
    return _records(source, chosen, _Fields("text" if text_field is None else text_field, id_field, delimiter))


def format_of(name: str | Path) -> str | None:
    """Return the format that a file's name ends with, as .gz and .zst too, or None."""
    path = Path(name)
    inner = Path(path.stem) if path.suffix.lower() in COMPRESSED_ENDINGS else path
    return _ENDINGS.get(inner.suffix.lower())


class _Fields(NamedTuple):
    """Where a record's parts stand in a row."""

    text: str
    id: str | None
    delimiter: str


def _chosen_delimiter(format: str, delimiter: str | None) -> str:
    if delimiter is None:
        return _DELIMITERS.get(format, "")
    if format != "csv":
        raise InvalidOption(
            f"A delimiter was given, and {format} has none to choose.", "Name the format: --format csv."
        )
    # No shell makes a tab of what is easily typed.
    chosen = delimiter.replace("\\t", "\t")
    if len(chosen) != 1 or chosen in _NO_DELIMITERS:
        raise InvalidOption("A delimiter is one character, no quote mark and no blank.", "Write it like ';' or '\\t'.")
    return chosen


def _chosen_format(source: Source, format: str | None) -> str:
    known = ", ".join(FORMATS)
    if format is not None:
        if format not in FORMATS:
            raise InvalidOption(f"The format of an input is one of {known}, not {format!r}.")
        return format
    path = source_path(source)
    if path is None:
        return "txt"
    by_ending = format_of(path)
    if by_ending is None:
        with opened(source):
            pass  # of a missing file or a folder the ending does not matter
        raise InvalidFile(
            f"The ending of {path} names none of the formats that are read: {known} (also as .gz and .zst).",
            "Name the format with --format.",
        )
    return by_ending


def _records(source: Source, format: str, fields: _Fields) -> Iterator[Record]:
    found = False
    for record in _records_of_format(source, format, fields):
        found = True
        yield record
    if not found:
        raise InvalidFile(f"{source_name(source)} is empty: there is no item in it.")


def _records_of_format(source: Source, format: str, fields: _Fields) -> Iterator[Record]:
    with opened(source) as stream:
        if format == "parquet":
            yield from parquet_records(stream, source, fields.text, fields.id)
            return
        name = source_name(source)
        lines = decoded_lines(blocks(stream, source), name)
        if format == "txt":
            yield from _txt_records(lines)
        elif format == "jsonl":
            yield from _jsonl_records(lines, fields.text, fields.id)
        else:
            yield from table_records(lines, name, fields.delimiter, fields.text, fields.id)


def _txt_records(runs: Iterable[Lines]) -> Iterator[Record]:
    for first, texts in runs:
        for number, text in enumerate(texts, first):
            if text is None:
                yield Record(None, where=f"line {number}", problem=TOO_LONG)
            else:
                yield Record(text.removesuffix("\r"), None, f"line {number}")


def _jsonl_records(runs: Iterable[Lines], text_field: str, id_field: str | None) -> Iterator[Record]:
    for first, lines in runs:
        for number, line in enumerate(lines, first):
            where = f"line {number}"
            try:
                fields = _json_object(line)
                text = fields[text_field]
                given = None if id_field is None else fields[id_field]
                # to Python true is a whole number, to a person it is no id
                custom_id = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
                record = Record(text, custom_id, where)
            except KeyError as error:
                record = Record(None, None, where, f"missing field {error.args[0]!r}")
            except _NoJSONObject as error:
                record = Record(None, None, where, str(error))
            yield record


class _NoJSONObject(Exception):
    """Raised when a line is no JSON object; its message is the reason and holds nothing of the line."""


def _json_object(line: str | None) -> dict[str, object]:
    if line is None:
        raise _NoJSONObject(TOO_LONG)
    try:
        value = json_value(line)
    except NotJSON as error:
        raise _NoJSONObject(f"no JSON object ({error})" if line.strip() else str(error)) from None
    if not isinstance(value, dict):
        raise _NoJSONObject("no JSON object")
    return value
