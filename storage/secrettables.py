"""The row of what only the service's own processes know."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from storage.rows import Row


class SecretRow(Row):
    """One secret of the service, such as the one its session cookies are signed with."""

    __tablename__ = "secrets"
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[bytes]
    created_at: Mapped[int]
