"""The store of tokenizers: one a model identity, registered by its workers, read by those who have no model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import zstandard
from sqlalchemy import Connection, insert, select, update

from storage.contract.tokens import TokenizerFile, TokenRules
from storage.database import Database
from storage.tokenizertables import TokenizerRow

#: Vocabularies pack to about a quarter at any level; this one takes a moment even for a vocabulary of 250,000.
_LEVEL = 3


@dataclass(frozen=True, slots=True)
class PackedTokenizer:
    """A tokenizer as it is kept.

    Args:
        digest: What its content is known by.
        rules: As a JSON object.
        definition: In UTF-8, zstd.
    """

    digest: str
    rules: dict[str, Any]
    definition: bytes

    @classmethod
    def of(cls, file: TokenizerFile) -> PackedTokenizer:
        """Return a tokenizer as it is to be kept."""
        definition, rules = file.definition.encode(), file.rules.to_dict()
        digest = sha256(json.dumps(rules, sort_keys=True).encode() + b"\n" + definition).hexdigest()
        return cls(digest, rules, zstandard.ZstdCompressor(level=_LEVEL).compress(definition))


def keep_tokenizer(connection: Connection, model_id: str, packed: PackedTokenizer) -> None:
    """Keep the tokenizer of a model inside a running transaction; one that is there already is not written again.

    Args:
        connection: In a transaction that knows the model.
        model_id: The model identity.
        packed: Its tokenizer.
    """
    ours = TokenizerRow.model_id == model_id
    kept = connection.execute(select(TokenizerRow.digest).where(ours)).scalar()
    if kept == packed.digest:
        return
    values = {"digest": packed.digest, "rules": packed.rules, "definition": packed.definition}
    if kept is None:
        connection.execute(insert(TokenizerRow).values(model_id=model_id, **values))
    else:
        connection.execute(update(TokenizerRow).where(ours).values(values))


class TokenizerStore:
    """Every read of tokenizers."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def digest(self, model_id: str) -> str | None:
        """Return what the content of a model's tokenizer is known by, or None when no worker has registered it."""
        with self._db.read() as connection:
            wanted = select(TokenizerRow.digest).where(TokenizerRow.model_id == model_id)
            return connection.execute(wanted).scalar()

    def get(self, model_id: str) -> TokenizerFile | None:
        """Return a model's tokenizer, or None when no worker has registered it."""
        wanted = select(TokenizerRow.definition, TokenizerRow.rules).where(TokenizerRow.model_id == model_id)
        with self._db.read() as connection:
            row = connection.execute(wanted).first()
        if row is None:
            return None
        definition = zstandard.ZstdDecompressor().decompress(row.definition)
        return TokenizerFile(definition.decode(), TokenRules.from_dict(row.rules))
