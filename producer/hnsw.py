"""The index by which pgvector finds the nearest vectors: what it is called, the SQL that builds it, and its memory."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from psycopg import sql

from storage.contract.errors import InvalidOption

#: What nearness may mean, and the class of operators that pgvector has for it, behind the type's name.
DISTANCES = {"cosine": "cosine_ops", "l2": "l2_ops", "ip": "ip_ops"}

#: Most components that an HNSW index takes.
_INDEXED = {"vector": 2000, "halfvec": 4000}

#: Most bytes of a name that PostgreSQL does not cut.
_NAME = 63


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
        column = "embedding" if self._kept == self.kind else f"(embedding::{self._kept}({self.width}))"
        return (
            sql.SQL("CREATE INDEX {how}IF NOT EXISTS {name} ON {table} USING hnsw ({column} {operators}) {more}")
            .format(
                how=sql.SQL("CONCURRENTLY " if concurrently else ""),
                name=sql.Identifier(self.name),
                table=sql.Identifier(*self.table.split(".")),
                column=sql.SQL(column),
                operators=sql.SQL(f"{self._kept}_{DISTANCES[self.distance]}"),
                more=sql.SQL(f"WITH (m = {self.m}, ef_construction = {self.ef_construction})"),
            )
            .as_string(None)
        )

    @property
    def name(self) -> str:
        """What it is called: PostgreSQL would cut a longer name, and take another's index for this one."""
        table, end = self.table.rpartition(".")[2].encode(), f"_embedding_{self.distance}"
        if len(table) + len(end) > _NAME:
            end = f"_{blake2b(table, digest_size=4).hexdigest()}{end}"
        return table[: _NAME - len(end)].decode(errors="ignore") + end

    @property
    def place(self) -> str:
        """Its name with its schema's, as SQL writes it."""
        return sql.Identifier(*self.table.split(".")[:-1], self.name).as_string(None)

    @property
    def _kept(self) -> str:
        return self.kind if self.width <= _INDEXED[self.kind] else "halfvec"
