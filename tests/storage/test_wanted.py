"""Which models calls want, over both databases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import func, select, update

from storage.leaders import RECONCILE, LeaderStore
from storage.stores import Stores
from storage.tables import LeaderRow
from tests.storage.builders import CARD, OTHER, serve


def wanted(stores: Stores, name: str = CARD.name) -> bool:
    return stores.backlogs.of_model(name).is_wanted


def move(stores: Stores, milliseconds: int) -> None:
    """Let so much time go by, or the database's clock be set back."""
    with stores.database.write() as connection:
        connection.execute(update(LeaderRow).values(expires=LeaderRow.expires - milliseconds))


def test_a_model_is_wanted_for_some_minutes_after_the_last_call_for_it(
    stores: Stores, open_again: Callable[[], Stores]
) -> None:
    # Given two models that were served once
    for card in (CARD, OTHER):
        stores.workers.leave(serve(stores, card))
    assert not wanted(stores)
    # When one is called, then everybody sees it, and of this one alone
    stores.wanted.note(CARD.id)
    other = open_again()
    assert wanted(stores) and wanted(other) and not wanted(other, OTHER.name)
    # And when another process notes it too, then it is one note still
    other.wanted.note(CARD.id)
    with stores.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(LeaderRow)).scalar_one() == 1
    # And with time it is over, also where a clock was set back: not in five minutes, when a call may have come later
    move(stores, 300_001)
    assert wanted(stores)
    move(stores, 60_000)
    assert not wanted(stores)
    move(stores, -3_600_000)
    assert not wanted(stores)


def test_a_process_notes_a_model_once_a_minute(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("storage.wanted.time.monotonic", lambda: now[0])
    stores.workers.leave(serve(stores))
    stores.wanted.note(CARD.id)
    move(stores, 360_001)
    # When calls go on, then nothing is written for a minute
    now[0] += 59
    stores.wanted.note(CARD.id)
    assert not wanted(stores)
    # And then it is
    now[0] += 1
    stores.wanted.note(CARD.id)
    assert wanted(stores)


def test_a_note_is_in_no_leaders_way(stores: Stores) -> None:
    stores.workers.leave(serve(stores))
    stores.wanted.note(CARD.id)
    owner = stores.wanted._id
    assert LeaderStore(stores.database).lead(RECONCILE, owner)
    LeaderStore(stores.database).resign(RECONCILE, owner)
    assert wanted(stores)
