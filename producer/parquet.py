"""Records out of Parquet files: one column of texts, perhaps one of ids, batch by batch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from producer.arrow import arrow_module
from producer.decoding import MAX_LINE_BYTES
from producer.output import write_all
from producer.records import Record
from producer.sources import COMPRESSED_ENDINGS, Source, blocks, source_name, source_path
from producer.tables import column_index
from storage.contract.errors import InvalidFile, StorageFull

#: Rows, and about how many bytes of them, that are decoded at a time; more cost memory, fewer cost speed.
BATCH_ROWS, BATCH_BYTES = 4096, 64 << 20

#: Of a longer text only this is said; as long as a line may be.
TOO_LONG = f"text longer than {MAX_LINE_BYTES >> 20} MiB"


def parquet_records(stream: BinaryIO, source: Source, text_field: str, id_field: str | None) -> Iterator[Record]:
    """Yield one record a row; `where` is the row, from 1.

    Args:
        stream: What was opened from `source`.
        source: What messages name, and whose ending says whether it is compressed.
        text_field: Column of the texts: strings, plain or dictionary-encoded.
        id_field: Column of the caller's ids, strings or whole numbers, or None.

    Raises:
        InvalidFile: When it is no Parquet file, is damaged, or lacks a column or has it of another type.
        StorageFull: When the temporary folder has no room for a compressed or piped file.
    """
    name = source_name(source)
    arrow = arrow_module("pyarrow")
    with _seekable(stream, source) as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        try:
            opened = arrow_module("pyarrow.parquet").ParquetFile
            _check_columns(arrow, opened(file).schema_arrow, name, text_field, id_field)
            columns = [text_field] if id_field is None else [text_field, id_field]
            # Equal strings stay one string: a few bytes of a file may stand for thousands that are large.
            table = opened(file, pre_buffer=False, read_dictionary=columns)
            yield from _rows(table, columns, name)
        except (arrow.ArrowException, OSError) as error:
            raise InvalidFile(f"{name} is no Parquet file, or a damaged one.") from error


def _rows(table: Any, columns: list[str], name: str) -> Iterator[Record]:
    first = 1
    for batch in _batches(table, columns):
        try:
            texts = _values(batch.column(columns[0]))
            ids = _values(batch.column(columns[1])) if len(columns) > 1 else [None] * len(texts)
        except UnicodeDecodeError:
            last = first + batch.num_rows - 1
            raise InvalidFile(f"{name} has a string that is not UTF-8 in the rows {first} to {last}.") from None
        for row, (text, custom_id) in enumerate(zip(texts, ids, strict=True), first):
            given = str(custom_id) if isinstance(custom_id, int) else custom_id
            if text is _LONG:
                yield Record(None, given, f"row {row}", TOO_LONG)
            else:
                yield Record(text, given, f"row {row}")
        first += len(texts)


def _batches(table: Any, columns: list[str]) -> Iterator[Any]:
    """Yield batches of rows that are neither many nor, by what the file says of its row groups, much."""
    for number in range(table.num_row_groups):
        group = table.metadata.row_group(number)
        chunks = (group.column(place) for place in range(group.num_columns))
        size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in columns)
        rows = max(1, min(BATCH_ROWS, BATCH_BYTES * group.num_rows // max(1, size)))
        yield from table.iter_batches(rows, row_groups=[number], columns=columns, use_threads=False)


#: Stands for a string that is too long.
_LONG = object()


def _values(column: Any) -> list[Any]:
    """Return a column's values; equal strings are one object, and `_LONG` stands for one that is too long."""
    if not hasattr(column, "indices"):
        values: list[Any] = column.to_pylist()
        return values
    used = column.indices.unique()
    strings = column.dictionary.take(used)
    sizes = arrow_module("pyarrow.compute").binary_length(strings).to_pylist()
    if max((size for size in sizes if size is not None), default=0) > MAX_LINE_BYTES:
        found = [
            _LONG if (size or 0) > MAX_LINE_BYTES else one.as_py() for one, size in zip(strings, sizes, strict=True)
        ]
    else:
        found = strings.to_pylist()
    by_index = dict(zip(used.to_pylist(), found, strict=True))
    return [by_index[index] for index in column.indices.to_pylist()]


def _check_columns(arrow: Any, schema: Any, name: str, text_field: str, id_field: str | None) -> None:
    text_type = schema.field(column_index(schema.names, text_field, name, "--text-field")).type
    if not _is_string(arrow, text_type):
        raise InvalidFile(f"Column {text_field!r} of {name} holds {text_type}, not strings; {_described(schema)}.")
    if id_field is None:
        return
    id_type = schema.field(column_index(schema.names, id_field, name, "--id-field")).type
    if not _is_string(arrow, id_type) and not arrow.types.is_integer(id_type):
        raise InvalidFile(
            f"Column {id_field!r} of {name} holds {id_type}, neither strings nor whole numbers; {_described(schema)}."
        )


def _is_string(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _described(schema: Any) -> str:
    return "its columns are " + ", ".join(f"{field.name!r} ({field.type})" for field in schema)


@contextmanager
def _seekable(stream: BinaryIO, source: Source) -> Iterator[BinaryIO]:
    """Give a file one can jump in, as Parquet's index stands at the end: `stream` itself, or a temporary copy."""
    path = source_path(source)
    if path is not None and path.suffix.lower() not in COMPRESSED_ENDINGS and stream.seekable():
        yield stream
        return
    # Without a buffer, which would be written only when it is read, or closed.
    with tempfile.TemporaryFile(buffering=0) as copy:
        for block in blocks(stream, source):
            try:
                write_all(copy, block)
            except OSError as error:
                raise StorageFull("The temporary folder has no room for a copy of the input.") from error
        copy.seek(0)
        yield copy
