"""The moment at which a statement began, on the database's clock: what the column of an index is compared with.

`now_ms` may change from row to row on PostgreSQL, which therefore compares it with no index, and guesses nothing of how
many rows are over. This one stands still for a statement, and moves on with the next one of the same transaction.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from storage.database import SQLITE_NOW


class statement_ms(GenericFunction[int]):
    """Milliseconds since 1970, as the statement began."""

    type = BigInteger()
    inherit_cache = True


@compiles(statement_ms, "sqlite")
def _on_sqlite(element: statement_ms, compiler: Any, **kw: Any) -> str:
    # SQLite compares its clock with an index as it is: it is asked before the first row.
    return SQLITE_NOW


@compiles(statement_ms, "postgresql")
def _on_postgresql(element: statement_ms, compiler: Any, **kw: Any) -> str:
    return "CAST(extract(epoch from statement_timestamp()) * 1000 AS BIGINT)"
