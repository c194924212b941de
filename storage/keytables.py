"""The rows of API keys: who may do what, and how much of it.

What a key has used up (`quotas`) is kept apart from the key, and only where it has a quota: it changes with every job,
and is locked by it.
"""

from __future__ import annotations

from sqlalchemy import Double, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from storage.rows import Row


class KeyRow(Row):
    """One API key; its secret is kept as a hash alone."""

    __tablename__ = "keys"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str]
    secret_hash: Mapped[bytes]
    scopes: Mapped[str]
    created_at: Mapped[int]
    expires_at: Mapped[int | None]
    revoked_at: Mapped[int | None]
    last_used_at: Mapped[int | None]
    keep_for: Mapped[int | None]
    keep_texts_for: Mapped[int | None]


class QuotaRow(Row):
    """What a key may have and use, and the tokens it owes at one moment; keys without limits have no such row."""

    __tablename__ = "quotas"
    key_id: Mapped[str] = mapped_column(String(32), ForeignKey("keys.id"), primary_key=True)
    texts: Mapped[int | None]
    jobs: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    stored_bytes: Mapped[int | None]
    owed: Mapped[float] = mapped_column(Double, default=0.0)
    as_of: Mapped[int]
