"""A pgvector table of vectors: made when it is missing, checked when it is there, filled by binary COPY, indexed."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError

from producer.hnsw import DISTANCES, HnswIndex
from storage.contract.errors import InvalidOption
from storage.database import Database
from storage.faults import StorageForbidden
from storage.postgresserver import limit

#: How a component is written on the wire, by the type of the column.
_WIRE: dict[str, np.dtype[Any]] = {"vector": np.dtype(">f4"), "halfvec": np.dtype(">f2")}

TYPES = tuple(_WIRE)

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
        with self._told(), driver.cursor() as cursor, cursor.copy(statement) as copy:
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

    def build(self, index: HnswIndex, memory: int) -> bool:
        """Build an index, whole or not at all; whoever writes to the table waits for its end.

        Args:
            index: Which one.
            memory: MB that the server may use for it; see `HnswIndex.memory`.

        Returns:
            Whether it was built; False where there is one of that name.

        Raises:
            InvalidOption: When there is one of that name that was not built to its end.
        """
        known = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
        with self.database.write() as connection:
            limit(connection, statement_timeout="0", lock_timeout="0", maintenance_work_mem=f"{memory}MB")
            there = self._run(connection, known, [index.place]).fetchone()
            if there is None:
                self._run(connection, index.sql())
            elif not there[0]:
                raise InvalidOption(
                    f"The index {index.place} was not built to its end.",
                    f"Run: DROP INDEX {index.place}; and do it again.",
                )
        return there is None

    def _run(self, connection: Connection, statement: Any, parameters: Sequence[Any] = ()) -> Any:
        driver: Any = connection.connection.driver_connection
        with self._told():
            return driver.execute(statement, list(parameters))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Have what the driver itself raises told as what SQLAlchemy does, or as what was asked for in vain."""
        try:
            yield
        except psycopg.OperationalError as error:
            raise OperationalError(None, None, error) from error
        except psycopg.Error as error:
            # Its first line names tables and types; those behind it may hold a text.
            why = next(iter(str(error).splitlines()), type(error).__name__)
            raise InvalidOption(f"The table {self.name!r} cannot be made or used: {why}.", "Name another.") from None


def _text(words: Sequence[str] | None, place: int) -> tuple[bytes, ...]:
    if words is None:
        return (_NULL,)
    data = words[place].encode()
    return struct.pack(">i", len(data)), data
