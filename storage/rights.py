"""What each side may do in PostgreSQL where it has a role of its own: whole tables, and nothing that is not needed.

The owner of the tables migrates, and grants this each time anew, so that a new table has its rights before the program
that uses it starts. Nothing is taken away then: programs of the version before may work beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from sqlalchemy import Connection, bindparam, text

from storage.contract.errors import InvalidOption
from storage.database import Database
from storage.faults import retried


class Side(StrEnum):
    """Who has a role: the service with all who submit beside it, or the workers with their reconciler."""

    API = "api"
    WORKER = "worker"


_READ, _ADD, _CHANGE = "SELECT", "SELECT, INSERT", "SELECT, INSERT, UPDATE"
_ALL = "SELECT, INSERT, UPDATE, DELETE"
_CLEAR = "SELECT, DELETE"

#: The rights on each table. The service cannot write a vector, nor say who serves what; workers see neither keys nor
#: secrets, files, batches and webhooks.
RIGHTS: dict[Side, dict[str, str]] = {
    Side.API: {
        "alembic_version": _READ,
        "batch_groups": _ALL,
        "batch_lines": _ALL,
        "batches": _ALL,
        "chunks": _ALL,
        "counters": _CHANGE,
        "file_blocks": _ALL,
        "files": _ALL,
        "inputs": _ALL,
        "jobs": _ALL,
        "keys": _CHANGE,
        "leaders": _ALL,
        "models": _READ,
        "parted_jobs": _ALL,
        "parts": _ALL,
        "quotas": _CHANGE,
        "results": _CLEAR,
        "secrets": _ADD,
        "services": _ALL,
        "tokenizers": _READ,
        "uploads": _ALL,
        "webhook_secrets": _CHANGE,
        "webhooks": _ALL,
        "workers": _READ,
    },
    Side.WORKER: {
        "alembic_version": _READ,
        "chunks": _ALL,
        "counters": _CHANGE,
        "inputs": _ALL,
        "jobs": "SELECT, UPDATE, DELETE",
        "leaders": _ALL,
        "models": _CHANGE,
        "parted_jobs": _CLEAR,
        "parts": _CLEAR,
        "quotas": "SELECT, UPDATE",
        "results": _ALL,
        "services": _CLEAR,
        "tokenizers": _CHANGE,
        "workers": _ALL,
    },
}


@retried
def grant(database: Database, roles: Mapping[Side, str]) -> None:
    """Give roles their rights; they may have them already. Only the owner of the tables can.

    Args:
        database: A PostgreSQL, migrated.
        roles: The role of each side that has one.

    Raises:
        InvalidOption: When it is no PostgreSQL, or has no such role.
        StorageUnavailable: When it cannot be reached, or whoever asks does not own the tables.
    """
    if roles and database.is_sqlite:
        raise InvalidOption("SQLite has no roles.", "Name roles for PostgreSQL alone.")
    with database.write() as connection:
        for side, role in roles.items():
            _check_there(connection, role)
            quote = connection.dialect.identifier_preparer.quote_identifier
            schema = connection.execute(text("SELECT current_schema()")).scalar_one()
            connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {quote(schema)} TO {quote(role)}")
            for table, rights in RIGHTS[side].items():
                connection.exec_driver_sql(f"GRANT {rights} ON TABLE {table} TO {quote(role)}")


def missing(connection: Connection, side: Side) -> list[str]:
    """Return what whoever asks may not do, of what a side needs: `SELECT ON keys` and so on."""
    wanted = [(table, right) for table, rights in RIGHTS[side].items() for right in rights.split(", ")]
    tables, rights = [table for table, _ in wanted], [right for _, right in wanted]
    asked = text(
        'SELECT t."table", t."right" FROM unnest(CAST(:tables AS text[]), CAST(:rights AS text[]))'
        ' WITH ORDINALITY AS t ("table", "right", place)'
        ' WHERE NOT coalesce(has_table_privilege(to_regclass(t."table"), t."right"), false) ORDER BY t.place'
    ).bindparams(bindparam("tables"), bindparam("rights"))
    found = connection.execute(asked, {"tables": tables, "rights": rights})
    return [f"{right} ON {table}" for table, right in found]


def _check_there(connection: Connection, role: str) -> None:
    if connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).first() is None:
        raise InvalidOption(
            f"PostgreSQL has no role {role}.", "Make it first: deploy/postgres/roles.sql does (docs/operations.md)."
        )
