"""A pgvector table of vectors: made when it is missing, checked when it is there, filled by binary COPY, indexed."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from storage.contract.errors import InvalidOption
from storage.database import Database, limit
from storage.faults import StorageForbidden

#: How a component is written on the wire, by the type of the column.
_WIRE: dict[str, np.dtype[Any]] = {"vector": np.dtype(">f4"), "halfvec": np.dtype(">f2")}

TYPES = tuple(_WIRE)

#: What nearness may mean, and the class of operators that pgvector has for it, behind the type's name.
DISTANCES = {"cosine": "cosine_ops", "l2": "l2_ops", "ip": "ip_ops"}

#: Most components that an HNSW index takes.
_INDEXED = {"vector": 2000, "halfvec": 4000}

_HEAD, _END = b"PGCOPY\n\xff\r\n\0" + bytes(8), struct.pack(">h", -1)
_NULL = struct.pack(">i", -1)


@dataclass(frozen=True, slots=True)
class Rows:
    """Some items of a job that have vectors.

    Args:
        positions: Of the items.
        ids: The callers' ids, or None.
        texts: Their texts, or None where they are not wanted.
        matrix: Shape (items, width).
    """

    positions: Sequence[int]
    ids: Sequence[str] | None
    texts: Sequence[str] | None
    matrix: NDArray[np.floating]


class PgvectorTable:
    """One table of job_id, position, custom_id, embedding and perhaps text.

    Args:
        database: The PostgreSQL it is in.
        name: Its name, with its schema's before a dot or without.
        width: Components of a vector.
        kind: `vector` or `halfvec`.
        with_text: Whether it has the texts too.

    Raises:
        InvalidOption: When the type is unknown.
    """

    def __init__(
        self, database: Database, name: str, width: int, kind: str = "vector", with_text: bool = False
    ) -> None:
        if kind not in _WIRE:
            raise InvalidOption(f"The type is one of {', '.join(TYPES)}.")
        self.database = database
        self.name = name
        self._identifier = sql.Identifier(*name.split("."))
        self._width = width
        self._kind = kind
        self._columns = ("job_id", "position", "custom_id", "embedding", *(("text",) if with_text else ()))

    def prepare(self) -> None:
        """Make the extension and the table where they are missing.

        Raises:
            InvalidOption: When the extension cannot be made, or a table of that name has other columns.
        """
        wanted = {"job_id": "uuid", "position": "bigint", "custom_id": "text"}
        wanted |= {"embedding": f"{self._kind}({self._width})", "text": "text"}
        wanted = {name: wanted[name] for name in self._columns}
        self._make_extension()
        with self.database.write() as connection:
            columns = sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in wanted.items()
            )
            self._run(
                connection,
                sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY (job_id, position))").format(
                    self._identifier, columns
                ),
            )
            described = self._run(
                connection,
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
                [self._identifier.as_string(None)],
            ).fetchall()
        found = {name: kind.rpartition(".")[2] for name, kind in described}
        for name, kind in wanted.items():
            if found.get(name) not in (kind, kind.partition("(")[0]):
                raise InvalidOption(
                    f"Column {name} of {self.name} is {found.get(name, 'missing')}, and must be {kind}.",
                    "Name another table, or another --type.",
                )

    def _make_extension(self) -> None:
        with self.database.read() as connection:
            if connection.execute(text("SELECT 1 FROM pg_type WHERE typname = :name"), {"name": self._kind}).first():
                return
        try:
            with self.database.write() as connection:
                connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
        except (DBAPIError, StorageForbidden) as error:
            raise InvalidOption(
                f"The database has no type {self._kind}, and pgvector cannot be made there.",
                "Install pgvector on its server and let an administrator run: CREATE EXTENSION vector",
            ) from error

    def add(self, job_id: str, rows: Rows) -> int:
        """Add rows in one transaction, but for those that are there already; return how many were added.

        Args:
            job_id: Their job; whoever publishes the same one beside waits for its turn.
            rows: In the order of their positions.
        """
        if not len(rows.positions):
            return 0
        with self.database.write() as connection:
            limit(connection, lock_timeout="0", statement_timeout="0")
            turn = f"embedmill publish {self.name} {job_id}"
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:turn, 0))"), {"turn": turn})
            there = self._run(
                connection,
                sql.SQL("SELECT position FROM {} WHERE job_id = %s AND position BETWEEN %s AND %s").format(
                    self._identifier
                ),
                [job_id, rows.positions[0], rows.positions[-1]],
            )
            known = {row[0] for row in there}
            new = [place for place, position in enumerate(rows.positions) if position not in known]
            if new:
                self._copy(connection, UUID(job_id).bytes, rows, new)
        return len(new)

    def _copy(self, connection: Connection, job_id: bytes, rows: Rows, places: list[int]) -> None:
        columns = sql.SQL(", ").join(map(sql.Identifier, self._columns))
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(self._identifier, columns)
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(_HEAD)
            copy.write(self._encoded(job_id, rows, places))
            copy.write(_END)

    def _encoded(self, job_id: bytes, rows: Rows, places: list[int]) -> bytes:
        """Return rows as PostgreSQL's binary COPY has them: each value's length, then the value, big-endian."""
        with np.errstate(over="ignore"):
            components = rows.matrix[places].astype(_WIRE[self._kind])
        if not np.isfinite(components).all():
            raise InvalidOption("A vector holds a number that is too large for halfvec.", "Publish with --type vector.")
        blob, size = memoryview(components.tobytes()), components.shape[1] * components.itemsize
        begin = struct.pack(">hi", len(self._columns), 16) + job_id + struct.pack(">i", 8)
        vector = struct.pack(">iHH", 4 + size, components.shape[1], 0)
        parts: list[bytes | memoryview] = []
        for row, place in enumerate(places):
            parts += (begin, rows.positions[place].to_bytes(8, "big"), *_text(rows.ids, place))
            parts += (vector, blob[row * size : (row + 1) * size])
            if rows.texts is not None:
                parts += _text(rows.texts, place)
        return b"".join(parts)

    def index(self, distance: str = "cosine", m: int = 16, ef_construction: int = 64) -> HnswIndex:
        """Return the index that is advised.

        Args:
            distance: What nearness means: `cosine`, `l2` or `ip`.
            m: Neighbours of each vector: more find better and take more room.
            ef_construction: Candidates looked at for each: more find better and take longer.

        Raises:
            InvalidOption: When the distance is unknown, or no index takes vectors of so many components.
        """
        if distance not in DISTANCES:
            raise InvalidOption(f"The distance is one of {', '.join(DISTANCES)}.")
        return HnswIndex(self.name, self._kind, self._width, distance, m, ef_construction)

    def count(self) -> int:
        """Return how many rows there are."""
        with self.database.read() as connection:
            limit(connection, statement_timeout="0")
            found = self._run(connection, sql.SQL("SELECT count(*) FROM {}").format(self._identifier)).fetchone()
        return int(found[0])

    def build(self, index: HnswIndex, rows: int) -> None:
        """Build an index, whole or not at all; whoever writes to the table waits for its end.

        Args:
            index: Which one.
            rows: How many rows there are.
        """
        with self.database.write() as connection:
            limit(connection, statement_timeout="0", lock_timeout="0", maintenance_work_mem=f"{index.memory(rows)}MB")
            self._run(connection, index.sql())

    @staticmethod
    def _run(connection: Connection, statement: Any, parameters: Sequence[Any] = ()) -> Any:
        driver: Any = connection.connection.driver_connection
        return driver.execute(statement, list(parameters))


@dataclass(frozen=True, slots=True)
class HnswIndex:
    """An index by which the nearest vectors are found without reading all; see `PgvectorTable.index`."""

    table: str
    kind: str
    width: int
    distance: str
    m: int
    ef_construction: int

    def __post_init__(self) -> None:
        if self.width > _INDEXED["halfvec"]:
            raise InvalidOption(f"No index of pgvector takes {self.width:,} components.", "Submit with --dimensions.")
        if not (2 <= self.m <= 100 and 2 * self.m <= self.ef_construction <= 1000):
            raise InvalidOption("m is 2 to 100, and ef_construction at least twice as much, at most 1,000.")

    def memory(self, rows: int) -> int:
        """Return the MB of memory in which the whole graph has room while it is built: beyond, it takes far longer.

        Args:
            rows: How many vectors.
        """
        numbers = 2 if self._kept == "halfvec" else 4
        each = numbers * self.width + 32 * self.m + 320
        return max(64, -(-rows * each * 12 // 10 // 2**20))

    def sql(self, concurrently: bool = False) -> str:
        """Return the statement that builds it.

        Args:
            concurrently: Whether the table is written to meanwhile; it then takes longer.
        """
        name = f"{self.table.rpartition('.')[2]}_embedding_{self.distance}"
        column = "embedding" if self._kept == self.kind else f"(embedding::{self._kept}({self.width}))"
        return (
            sql.SQL("CREATE INDEX {how}IF NOT EXISTS {name} ON {table} USING hnsw ({column} {operators}) {more}")
            .format(
                how=sql.SQL("CONCURRENTLY " if concurrently else ""),
                name=sql.Identifier(name),
                table=sql.Identifier(*self.table.split(".")),
                column=sql.SQL(column),
                operators=sql.SQL(f"{self._kept}_{DISTANCES[self.distance]}"),
                more=sql.SQL(f"WITH (m = {self.m}, ef_construction = {self.ef_construction})"),
            )
            .as_string(None)
        )

    @property
    def _kept(self) -> str:
        return self.kind if self.width <= _INDEXED[self.kind] else "halfvec"


def _text(words: Sequence[str] | None, place: int) -> tuple[bytes, ...]:
    if words is None:
        return (_NULL,)
    data = words[place].encode()
    return struct.pack(">i", len(data)), data
