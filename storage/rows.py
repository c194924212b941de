"""What all tables share: their root, the type of ids, and partial indexes that both databases understand."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Double, Index, LargeBinary, MetaData, String, Text, Uuid, text
from sqlalchemy.orm import DeclarativeBase

#: UUIDs are native on PostgreSQL and canonical text on SQLite, so that a person can type them there.
JobId = Uuid(as_uuid=False).with_variant(String(36), "sqlite")


class Row(DeclarativeBase):
    """Root of the tables; names every constraint, so that migrations can name them too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[Any] = {
        int: BigInteger,
        float: Double,
        bytes: LargeBinary,
        dict[str, Any]: JSON(none_as_null=True),
        str: Text,
    }


def partial_index(name: str, *columns_and_where: str) -> Index:
    """Return an index of those rows alone for which a condition holds, the last argument, on both databases."""
    *columns, where = columns_and_where
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))
