"""Indexes that a migration makes on a table others work with."""

from __future__ import annotations

from collections.abc import Mapping

from alembic import op
from sqlalchemy import text

#: Limits that the role's sessions have of their own: meant for its queries, they would end what is no transaction's and
#: takes as long as the table, and whoever writes to it, ask for; half an index would be left.
_LIMITS = ("statement_timeout", "lock_timeout")


def make_partial_indexes(table: str, indexes: Mapping[str, tuple[str, str]]) -> None:
    """Make partial indexes; on PostgreSQL beside whoever works, where there are rows.

    Args:
        table: Of this table.
        indexes: By name the columns, with commas between them, and the condition.
    """
    connection = op.get_bind()
    some = text(f"SELECT 1 FROM {table} LIMIT 1")
    if connection.dialect.name == "sqlite" or connection.execute(some).first() is None:
        for name, (columns, where) in indexes.items():
            these = columns.split(", ")
            op.create_index(name, table, these, sqlite_where=text(where), postgresql_where=text(where))
        return
    # No lock is held while rows are read. One that was cut off is of no use, and in the way.
    with op.get_context().autocommit_block():
        for limit in _LIMITS:
            op.execute(f"SET {limit} = 0")
        try:
            for name, (columns, where) in indexes.items():
                op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
                op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {table} ({columns}) WHERE {where}")
        finally:
            for limit in _LIMITS:
                op.execute(f"RESET {limit}")
