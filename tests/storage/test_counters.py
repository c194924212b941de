"""Counters of defences, over both databases."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

import pytest
from sqlalchemy import update

from storage import counters
from storage.contract.errors import StorageUnavailable
from storage.database import Database
from storage.migrations import migrate
from storage.stores import Stores
from storage.tables import CounterRow


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    counters.take()


def test_what_several_processes_count_is_added_up(stores: Stores, open_again: Callable[[], Stores]) -> None:
    counters.count("commits_late", 2)
    stores.counters.flush()
    counters.count("commits_late")
    counters.count("messages_dropped", 5)
    open_again().counters.flush()
    found = stores.counters.all()
    assert (found["commits_late"], found["messages_dropped"], found["chunks_split"]) == (3, 5, 0)
    assert set(found) == set(counters.MEANINGS)


def test_what_could_not_be_added_up_is_added_up_later(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StorageUnavailable("away")

    counters.count("commits_late", 2)
    with monkeypatch.context() as patch:
        patch.setattr(stores.counters, "_write", away)
        with pytest.raises(StorageUnavailable):
            stores.counters.flush()
    counters.count("commits_late")
    stores.counters.flush()
    stores.counters.flush()
    assert stores.counters.all()["commits_late"] == 3


def test_an_unknown_counter_is_refused() -> None:
    with pytest.raises(KeyError):
        counters.count("something_else")


def test_whoever_vanishes_while_it_adds_up_keeps_nobody_waiting(postgres_url: str) -> None:
    with closing(Database(postgres_url)) as database:
        migrate(database)
        stores = Stores.on(database)
        counters.count("commits_late")
        stores.counters.flush()
        # Given a process that has added to a counter and is heard of no more
        with database.write() as vanished:
            vanished.execute(update(CounterRow).where(CounterRow.name == "commits_late").values(value=5))
            # When another one adds to the same
            counters.count("commits_late", 2)
            begun = time.monotonic()
            with pytest.raises(StorageUnavailable):
                stores.counters.flush()
            # Then it gives up soon, where the other would be waited for for ever
            assert time.monotonic() - begun < 20
        # And what it has counted is added later
        stores.counters.flush()
        assert stores.counters.all()["commits_late"] == 7
