"""Records out of csv and tsv: a header row, then one row an item; quoted fields may hold newlines."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence

from producer.decoding import MAX_LINE_BYTES, TOO_LONG, Lines, stray_returns
from producer.records import Record
from storage.contract.errors import InvalidFile

#: Characters of a column's name, and number of columns, that a message shows: a missing header row is texts.
SHOWN_CHARACTERS = 40
SHOWN_COLUMNS = 20

#: What tables are separated by that are no csv in the narrow sense, and what to do: Excel writes the first in Europe.
_OTHER_DELIMITERS = {
    ";": ("semicolons", "Say so: --format csv --delimiter ';'."),
    "\t": ("tabs", "Say so: --format tsv."),
}

#: What Python says of a carriage return outside of quote marks.
_STRAY_RETURN = "new-line character seen"


def table_records(
    lines: Iterable[Lines], name: str, delimiter: str, text_field: str, id_field: str | None
) -> Iterator[Record]:
    """Yield one record a row; `where` is the line that the row starts in.

    Quoting is strict, because a stray quote mark, read generously, swallows the rows after it without a word.

    Args:
        lines: The decoded input.
        name: What messages call it.
        delimiter: What stands between two fields.
        text_field: Column of the texts.
        id_field: Column of the caller's ids, or None.

    Raises:
        InvalidFile: When the header lacks a column or repeats one, a line is too long, or quoting is broken.
    """
    if csv.field_size_limit() < MAX_LINE_BYTES:
        csv.field_size_limit(MAX_LINE_BYTES)
    rows = csv.reader(_with_newlines(lines, name), delimiter=delimiter, strict=True)
    try:
        header = next(rows, None)
        if header is None:
            return
        _check_header(header, (text_field, id_field), name)
        text_column = column_index(header, text_field, name, "--text-field")
        id_column = None if id_field is None else column_index(header, id_field, name, "--id-field")
        start = rows.line_num + 1
        for row in rows:
            where, start = f"line {start}", rows.line_num + 1
            if len(row) == len(header):
                yield Record(row[text_column], None if id_column is None else row[id_column], where)
            elif row:
                yield Record(None, None, where, f"{len(row)} fields, where the header has {len(header)}")
            else:
                yield Record(None, None, where, "blank line")
    except csv.Error as error:
        if _STRAY_RETURN in str(error):
            place = f"Line {rows.line_num} of {name}"
            raise stray_returns(
                f"{place} has a carriage return (CR) outside of quote marks, not before a newline."
            ) from None
        raise InvalidFile(
            f"{name} is broken as a table at line {rows.line_num}: {error}.",
            "A field that holds a quote mark, the delimiter or a newline is quoted, its quote marks doubled.",
        ) from error


def _check_header(header: list[str], wanted: tuple[str | None, ...], name: str) -> None:
    """Refuse a header that is none, or that looks separated by something else.

    Raises:
        InvalidFile: When it is so.
    """
    if not header or not "".join(header).strip():
        raise InvalidFile(f"Line 1 of {name} is empty; the names of the columns should be there.", "Remove that line.")
    if len(header) > 1 or all(column in header for column in wanted if column is not None):
        return
    for character, (told, remedy) in _OTHER_DELIMITERS.items():
        if character in header[0]:
            raise InvalidFile(f"{name} has one column alone; it looks separated by {told}.", remedy)


def column_index(columns: Sequence[str], wanted: str, name: str, flag: str) -> int:
    """Return where the column `wanted` stands among `columns`.

    Args:
        columns: Names of all columns, in order.
        wanted: The one that is asked for.
        name: What messages call the input.
        flag: The command line's flag that chooses the column.

    Raises:
        InvalidFile: When a column is repeated, or there is none named `wanted`.
    """
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise InvalidFile(f"{name} repeats a column: {_listed(repeated)}.", "Give every column a name of its own.")
    if wanted not in columns:
        raise InvalidFile(
            f"{name} has no column {wanted!r}; it has: {_listed(columns)}.", f"Choose one of them with {flag}."
        )
    return columns.index(wanted)


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - SHOWN_COLUMNS} more" if len(columns) > SHOWN_COLUMNS else ""
    return ", ".join(repr(column[:SHOWN_CHARACTERS]) for column in columns[:SHOWN_COLUMNS]) + more


def _with_newlines(runs: Iterable[Lines], name: str) -> Iterator[str]:
    for first, texts in runs:
        for number, text in enumerate(texts, first):
            if text is None:
                raise InvalidFile(f"Line {number} of {name} cannot be read: {TOO_LONG}.")
            yield text + "\n"
