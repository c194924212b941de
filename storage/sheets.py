"""A sheet: a few rows of one table on their way from one database to another, through a file or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import LargeBinary, Table

from storage.contract.errors import InvalidFile
from storage.tables import Row

#: A job's row comes before its chunks, to make room for them, and once more behind them, to accept it; `gone` takes
#: back what came of a job that was deleted, or changed, while it was read.
ROLES = ("rows", "begin", "end", "gone")


@dataclass(frozen=True, slots=True)
class Sheet:
    """Some rows of one table.

    Args:
        table: Its name.
        rows: Each by the names of its columns.
        role: One of `ROLES`.
    """

    table: str
    rows: list[dict[str, Any]]
    role: str = "rows"

    def to_bytes(self) -> bytes:
        """Return it as a line of JSON, in which a blob is its length, and then the blobs end to end."""
        of_bytes = blob_columns(self.table)
        blobs: list[bytes] = []
        rows = []
        for row in self.rows:
            told = dict(row)
            for name in row:
                if name in of_bytes and row[name] is not None:
                    blobs.append(bytes(row[name]))
                    told[name] = len(blobs[-1])
            rows.append(told)
        head = json.dumps({"table": self.table, "role": self.role, "rows": rows}, separators=(",", ":"))
        return b"".join((head.encode(), b"\n", *blobs))

    @classmethod
    def from_bytes(cls, data: bytes) -> Sheet:
        """Return the sheet that `to_bytes` wrote.

        Raises:
            InvalidFile: When it is none.
        """
        head, _, rest = data.partition(b"\n")
        try:
            told = json.loads(head)
            sheet, place = cls(told["table"], told["rows"], told["role"]), 0
            for row in sheet.rows:
                # In the order of the columns in the line, as they were written.
                for name in [name for name in row if name in blob_columns(sheet.table) and row[name] is not None]:
                    size = int(row[name])
                    row[name] = rest[place : place + size]
                    place += size
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidFile("A sheet of the archive cannot be read.", "Export it again.") from error
        if place != len(rest) or sheet.role not in ROLES:
            raise InvalidFile("A sheet of the archive is not whole.", "Export it again.")
        return sheet


def table_of(name: str) -> Table:
    """Return a table by its name.

    Raises:
        InvalidFile: When there is none.
    """
    try:
        return Row.metadata.tables[name]
    except KeyError:
        raise InvalidFile(f"The archive holds rows of {name!r}, which this program does not know.") from None


def blob_columns(table: str) -> set[str]:
    """Return the names of a table's columns that hold bytes."""
    return {column.name for column in table_of(table).columns if isinstance(column.type, LargeBinary)}


def known(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a table has columns for; a row of an older schema lacks some, which then are empty."""
    return {column.name: row[column.name] for column in table.columns if column.name in row}
