"""What waits for each model, and how the database is, over both databases."""

from __future__ import annotations

import pytest

from storage.backlogs import QueueBacklog
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.figures import Figures
from storage.leaders import RECONCILE, LeaderStore
from storage.stores import Stores
from tests.storage.builders import CARD, serve, submit


def figure(stores: Stores, name: str) -> dict[tuple[str, ...], float]:
    return next(figure.values for figure in Figures(stores).get() if figure.name == name)


def test_a_backlog_is_told_for_each_queue_and_what_was_begun_does_not_wait(stores: Stores) -> None:
    # Given a bulk job of three chunks of which one is in hand, and an urgent one that nobody has begun with
    worker = serve(stores)
    begun = submit(stores, chunks=3)
    submit(stores, chunks=2, priority=Priority.URGENT)
    stores.leases.claim(Pointer(begun, 0), worker, CARD.id, 0)
    # When asked, then each queue has its own, and only the untouched job waits
    found = stores.backlogs.by_queue()
    assert found.keys() == {(CARD.name, "bulk"), (CARD.name, "urgent")}
    bulk, urgent = found[CARD.name, "bulk"], found[CARD.name, "urgent"]
    assert (bulk.chunks, urgent.chunks) == (3, 2)
    assert bulk.texts * 2 == urgent.texts * 3 and bulk.tokens * 2 == urgent.tokens * 3 > 0
    assert bulk.oldest == 0.0 and urgent.oldest >= 0.0
    with stores.database.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET touched_at = touched_at - 90000")
    assert 90 <= stores.backlogs.by_queue()[CARD.name, "urgent"].oldest < 100


def test_a_model_without_anything_to_do_says_so(stores: Stores) -> None:
    # Given a model that is served and that nobody asks for, then its queues are told, with nothing in them
    assert figure(stores, "embedmill_backlog_tokens") == {}
    serve(stores)
    nothing = {(CARD.name, "bulk"): 0.0, (CARD.name, "urgent"): 0.0}
    assert figure(stores, "embedmill_backlog_tokens") == nothing
    # And a cancelled job leaves nothing behind
    stores.jobs.cancel(submit(stores, chunks=2))
    assert figure(stores, "embedmill_backlog_tokens") == nothing
    assert figure(stores, "embedmill_oldest_waiting_seconds") == nothing


def test_what_takes_long_to_collect_is_collected_the_less_often(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a clock that stands still but where backlogs are counted, which takes two seconds
    now = [1000.0]
    monkeypatch.setattr("storage.figures.monotonic", lambda: now[0])
    counted = []

    def count(self: object) -> dict[tuple[str, str], QueueBacklog]:
        counted.append(now[0])
        now[0] += 2.0
        return {}

    monkeypatch.setattr("storage.backlogs.BacklogStore.by_queue", count)
    figures = Figures(stores)
    # When somebody asks every second for a minute and a half
    for _ in range(90):
        figures.get()
        now[0] += 1.0
    # Then it was counted at most for a twentieth of the time
    assert counted == [1000.0, 1042.0, 1084.0]


def test_the_database_tells_its_size_and_latency_and_whether_a_reconciler_leads(stores: Stores) -> None:
    assert stores.vitals.size() > 10_000
    assert 0 < stores.vitals.latency() < 10
    assert not stores.vitals.reconciler_leads()
    LeaderStore(stores.database).lead(RECONCILE, new_id())
    assert stores.vitals.reconciler_leads()
