"""The rows of tokenizers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from storage.rows import Row


class TokenizerRow(Row):
    """The tokenizer of one model identity, as its worker registered it."""

    __tablename__ = "tokenizers"
    model_id: Mapped[str] = mapped_column(String(16), ForeignKey("models.id"), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    rules: Mapped[dict[str, Any]]
    definition: Mapped[bytes]
