"""What waits for each model, and how the database is, over both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import update

from storage.backlogs import Backlog, QueueBacklog
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.contract.models import Priority
from storage.figures import Figures
from storage.leaders import RECONCILE, LeaderStore
from storage.loads import Load
from storage.stores import Stores
from storage.tables import JobRow
from tests.storage.builders import CARD, OTHER, claim, finish, serve, submit


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
    assert (bulk.load, urgent.load) == (Load(3, 6, 60), Load(2, 4, 40))
    assert bulk.oldest == 0.0 and urgent.oldest >= 0.0
    with stores.database.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET touched_at = touched_at - 90000")
    assert 90 <= stores.backlogs.by_queue()[CARD.name, "urgent"].oldest < 900


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
    monkeypatch.setattr("storage.kept.monotonic", lambda: now[0])
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


def test_the_database_tells_its_size_and_latency_and_whether_a_reconciler_leads(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stores.vitals.size() > 10_000
    assert 0 < stores.vitals.latency() < 100
    assert not stores.vitals.reconciler_leads()
    monkeypatch.setattr("storage.leaders._TERM", 3_600_000)  # longer than any machine stands still
    LeaderStore(stores.database).lead(RECONCILE, new_id())
    assert stores.vitals.reconciler_leads()


def test_a_models_backlog_is_all_that_has_no_outcome_whichever_priority_it_has(stores: Stores) -> None:
    # Given a bulk job with one of three chunks done and one in hand, and an urgent job of one
    worker = serve(stores)
    job_id = submit(stores, 3)
    finish(stores, job_id, 1, worker)
    claim(stores, job_id, 1, worker)
    submit(stores, 1, priority=Priority.URGENT)
    serve(stores, OTHER)
    submit(stores, 5, OTHER, model=OTHER.name)
    # When one asks for the model's backlog, then the work in hand counts too, and another model's does not
    seen = stores.backlogs.of_model(CARD.name)
    assert (seen.bulk, seen.urgent, seen.workers) == (Load(2, 4, 40), Load(1, 2, 20), 1)
    assert seen.oldest_seconds >= 0
    # And nothing is an answer too
    assert stores.backlogs.of_model("mill/unknown") == Backlog(Load(), Load(), 0, 0, is_known=False)
    assert seen.is_known and stores.backlogs.of_model(CARD.name, precision=CARD.precision).is_known
    assert not stores.backlogs.of_model(CARD.name, precision="int8").is_known


def test_a_backlog_can_be_asked_for_by_revision_and_precision(stores: Stores) -> None:
    # Given one model in two precisions, with work for both, and a job that no identity was bound to yet
    half = replace(CARD, precision="half")
    serve(stores, half)
    serve(stores)
    submit(stores, 1)
    submit(stores, 2, half)
    unbound = submit(stores, 4, card=None)
    with stores.database.write() as connection:
        connection.execute(update(JobRow).where(JobRow.id == unbound).values(model_id=None))
    # When one asks for each, then it has its own, and what any of them may take
    tokens = {kind: stores.backlogs.of_model(CARD.name, precision=kind).bulk.tokens for kind in ("float32", "half")}
    assert tokens == {"float32": 20 + 80, "half": 40 + 80}
    assert stores.backlogs.of_model(CARD.name, CARD.revision[:3]).bulk.tokens == 140
    assert stores.backlogs.of_model(CARD.name, "another").bulk.tokens == 80


def test_what_no_live_worker_may_do_is_told_though_its_model_is_served(stores: Stores) -> None:
    # Given a model in two precisions, with work for both, and jobs that are bound to none: one of another model
    half = replace(CARD, precision="half")
    gone = serve(stores, half)
    serve(stores)
    submit(stores, 1)
    submit(stores, 2, half)
    for model in (CARD.name, OTHER.name):
        unbound = submit(stores, 4, card=None, model=model)
        with stores.database.write() as connection:
            connection.execute(update(JobRow).where(JobRow.id == unbound).values(model_id=None))
    # When both are served, then only what nobody knows waits in vain
    assert stores.backlogs.unserved() == {(OTHER.name, ""): 80}
    # And when one has gone, what is bound to it does too; what is served says that nothing waits
    stores.workers.leave(gone)
    assert stores.backlogs.unserved() == {(OTHER.name, ""): 80, (CARD.name, "half"): 40}
    told = figure(stores, "embedmill_backlog_unserved_tokens")
    assert told == {(OTHER.name, ""): 80.0, (CARD.name, "half"): 40.0, (CARD.name, CARD.precision): 0.0}
