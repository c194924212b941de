"""Tokenizers that workers register, over both databases."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import event, select

from storage.contract.ids import new_id
from storage.contract.tokens import TokenizerFile, TokenRules
from storage.database import Database
from storage.stores import Stores
from storage.tables import TokenizerRow
from tests.storage.builders import CARD, OTHER, serve

FILE = TokenizerFile('{"model": {"vocab": {"麦": 1, "rye": 2}}}' * 100, TokenRules(0, False, True, 1, 1))


def register(stores: Stores, file: TokenizerFile | None) -> None:
    stores.workers.register(CARD, new_id(), "millhouse", 4711, "cpu", tokenizer=file)


def test_a_registered_tokenizer_is_found_as_it_was(stores: Stores) -> None:
    register(stores, FILE)
    assert stores.tokenizers.get(CARD.id) == FILE
    # And of a model that nobody has registered, or that came without one, there is none
    serve(stores, OTHER)
    assert stores.tokenizers.get(OTHER.id) is None and stores.tokenizers.digest(OTHER.id) is None


def test_the_same_tokenizer_is_written_once_and_another_one_takes_its_place(stores: Stores, database: Database) -> None:
    # Given a registered tokenizer, and an ear for what is written
    register(stores, FILE)
    written: list[str] = []

    def hear(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "tokenizers" in statement and not statement.startswith("SELECT"):
            written.append(statement)

    event.listen(database.engine, "before_cursor_execute", hear)
    # When another worker brings the same
    known = stores.tokenizers.digest(CARD.id)
    register(stores, FILE)
    # Then nothing is written; nor when a worker brings none
    register(stores, None)
    assert written == [] and stores.tokenizers.digest(CARD.id) == known
    # And a change of the rules alone is a change
    other = replace(FILE, rules=replace(FILE.rules, cut_left=True))
    register(stores, other)
    assert len(written) == 1
    assert stores.tokenizers.get(CARD.id) == other and stores.tokenizers.digest(CARD.id) != known


def test_a_tokenizer_is_kept_small(stores: Stores, database: Database) -> None:
    register(stores, FILE)
    with database.read() as connection:
        kept = connection.execute(select(TokenizerRow.definition)).scalar_one()
    assert len(kept) < len(FILE.definition.encode()) / 4


def test_rules_of_a_later_version_are_read() -> None:
    assert TokenRules.from_dict(FILE.rules.to_dict() | {"lace": "fine"}) == FILE.rules
