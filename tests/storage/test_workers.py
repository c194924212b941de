"""Models, the workers that serve them, and who leads, over both databases."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import select, text, update

from storage.contract.ids import new_id
from storage.contract.models import ModelCard, Priority
from storage.database import Database, now_ms
from storage.leaders import LeaderStore
from storage.stores import Stores
from storage.tables import JobRow, LeaderRow, ModelRow, WorkerRow
from storage.workers import LIVE_WITHIN
from tests.commands import until
from tests.storage.builders import CARD, MODEL, OTHER, accept, claim, serve, submit

NEWER = replace(CARD, revision="7a11bee", prompts={"query": "query: "}, default_prompt_name="query")


def age(database: Database, worker: str, milliseconds: int) -> None:
    with database.write() as connection:
        silent = update(WorkerRow).where(WorkerRow.id == worker)
        connection.execute(silent.values(last_seen=now_ms() - milliseconds))


def test_a_registered_model_is_found_with_all_that_is_known_of_it(stores: Stores) -> None:
    serve(stores, NEWER)
    (served,) = stores.workers.find(MODEL)
    assert (served.card, served.workers) == (NEWER, 1)
    assert stores.workers.find("mill/unheard-of") == []


def test_a_model_stays_known_when_its_workers_are_gone(stores: Stores) -> None:
    worker = serve(stores)
    stores.workers.leave(worker)
    assert [(served.card, served.workers) for served in stores.workers.cards()] == [(CARD, 0)]
    assert stores.workers.live() == {}


def test_live_workers_are_counted_by_model_and_silent_ones_are_not(stores: Stores, database: Database) -> None:
    workers = [serve(stores), serve(stores), serve(stores, OTHER)]
    assert stores.workers.live() == {CARD.id: 2, OTHER.id: 1}
    age(database, workers[0], LIVE_WITHIN + 1)
    assert stores.workers.live() == {CARD.id: 1, OTHER.id: 1}
    # And a heartbeat brings it back
    stores.leases.heartbeat(workers[0], [])
    assert stores.workers.live()[CARD.id] == 2


def test_only_workers_silent_for_very_long_are_forgotten(stores: Stores, database: Database) -> None:
    gone, silent, live = serve(stores), serve(stores), serve(stores)
    age(database, gone, 10 * LIVE_WITHIN + 1)
    age(database, silent, 2 * LIVE_WITHIN)
    stores.workers.forget_gone()
    with database.read() as connection:
        assert set(connection.execute(select(WorkerRow.id)).scalars()) == {silent, live}


def test_a_worker_that_registers_in_anothers_way_tries_again(stores: Stores, database: Database) -> None:
    if database.is_sqlite:
        return  # it has one writer at a time
    # Given a known model, a job that no worker was found for, and somebody who has that job locked
    serve(stores)
    job_id = submit(stores)
    with database.write() as connection:
        connection.execute(update(JobRow).values(model_id=None))
    with ThreadPoolExecutor(1) as pool, database.write() as other:
        # However late he comes, he is the more patient of the two.
        for setting in ("deadlock_timeout = '10min'", "lock_timeout = '50s'"):
            other.execute(text(f"SET LOCAL {setting}"))
        other.execute(update(JobRow).where(JobRow.id == job_id).values(touched_at=now_ms()))
        # When a worker registers, which has the model locked and waits for the job, and he wants the model
        registering = pool.submit(serve, stores)
        waiting = text("SELECT 1 FROM pg_locks WHERE NOT granted")
        until("the worker to wait", lambda: other.execute(waiting).first(), 60, (), pause=0.01)
        other.execute(update(ModelRow).values(last_seen=now_ms()))
    # Then the worker, who was the first to wait in that circle, is served all the same, and the job is its model's
    registering.result(timeout=60)
    assert stores.workers.live()[CARD.id] == 2 and stores.jobs.get(job_id).model_id == CARD.id


def test_a_revision_is_found_by_its_beginning(stores: Stores) -> None:
    serve(stores), serve(stores, NEWER)
    assert [served.card for served in stores.workers.find(MODEL, "7a11")] == [NEWER]
    assert [served.card for served in stores.workers.find(MODEL, "5f1c0de")] == [CARD]
    assert stores.workers.find(MODEL, "%") == [] and stores.workers.find(MODEL, "_") == []


def test_an_identity_served_now_comes_before_one_that_was(stores: Stores) -> None:
    serve(stores)
    stores.workers.leave(serve(stores, NEWER))
    assert [(served.card, served.workers) for served in stores.workers.find(MODEL)] == [(CARD, 1), (NEWER, 0)]


def test_what_a_worker_tells_anew_of_its_model_replaces_the_old(stores: Stores) -> None:
    serve(stores)
    serve(stores, replace(CARD, max_length=64))
    (served,) = stores.workers.cards()
    assert (served.card.max_length, served.workers) == (64, 2)


def test_jobs_that_waited_for_a_model_are_bound_to_its_first_identity(stores: Stores) -> None:
    # Given jobs accepted before any worker came: one free, one of another revision, one of another model, one cancelled
    waiting = submit(stores, card=None)
    pinned = submit(stores, card=None, revision="7a11bee")
    unsealed = accept(stores, card=None)
    other = submit(stores, card=None, model=OTHER.name)
    cancelled = submit(stores, card=None)
    stores.jobs.cancel(cancelled)
    # When a worker registers
    worker = serve(stores)
    # Then it adopts what it may serve
    jobs = {job_id: stores.jobs.get(job_id).model_id for job_id in (waiting, pinned, other, cancelled, unsealed)}
    assert jobs == {waiting: CARD.id, unsealed: CARD.id, pinned: None, other: None, cancelled: None}
    assert [p.job_id for p in stores.chunks.dispatch(CARD.id, Priority.BULK)] == [waiting]
    assert len(claim(stores, waiting, 0, worker)) == 1
    # And a later identity takes what was meant for it, and nothing that is bound
    serve(stores, NEWER)
    assert stores.jobs.get(pinned).model_id == NEWER.id
    assert stores.jobs.get(waiting).model_id == CARD.id


def test_a_submission_that_began_before_the_first_worker_came_is_bound_when_it_is_sealed(stores: Stores) -> None:
    # Given a producer that found no worker, and wrote its first texts after one had come
    worker = serve(stores)
    late = accept(stores, card=None)
    pinned, foreign = accept(stores, card=None, revision="7a11bee"), accept(stores, card=None, model=OTHER.name)
    # When it seals the job, then that worker does it
    for job_id in (late, pinned, foreign):
        stores.jobs.seal(job_id, 2, 1)
    assert stores.jobs.get(late).model_id == CARD.id
    assert len(claim(stores, late, 0, worker)) == 1
    # And what that worker does not serve still waits
    assert stores.jobs.get(pinned).model_id is None and stores.jobs.get(foreign).model_id is None


@pytest.fixture
def long_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever leads lead for an hour: a term is shorter than a busy machine may stand still."""
    monkeypatch.setattr("storage.leaders._TERM", 3_600_000)


def test_one_process_leads_until_it_resigns_or_falls_silent(database: Database, long_term: None) -> None:
    leaders, first, second = LeaderStore(database), new_id(), new_id()
    assert leaders.lead("reconcile", first) is True
    assert leaders.lead("reconcile", second) is False
    assert leaders.lead("reconcile", first) is True
    assert leaders.lead("sweep", second) is True  # another duty
    leaders.resign("reconcile", second)  # not the leader's word
    assert leaders.lead("reconcile", second) is False
    leaders.resign("reconcile", first)
    assert leaders.lead("reconcile", second) is True
    with database.write() as connection:
        connection.execute(update(LeaderRow).values(expires=now_ms() - 1))
    assert leaders.lead("reconcile", first) is True
    assert leaders.lead("reconcile", second) is False


def test_a_clock_that_was_set_back_keeps_nobody_from_leading(database: Database) -> None:
    # Given a leader that is gone, and a database whose clock was then set back by an hour
    leaders, gone, next_ = LeaderStore(database), new_id(), new_id()
    leaders.lead("reconcile", gone)
    with database.write() as connection:
        connection.execute(update(LeaderRow).values(expires=LeaderRow.expires + 3_600_000))
    # When another one wants to lead, then it does
    assert leaders.lead("reconcile", next_) is True


def test_a_leader_writes_only_when_its_term_runs_out(database: Database, long_term: None) -> None:
    leaders, owner = LeaderStore(database), new_id()

    def expires() -> int:
        with database.read() as connection:
            return connection.execute(select(LeaderRow.expires)).scalar_one()

    leaders.lead("reconcile", owner)
    with database.write() as connection:
        connection.execute(update(LeaderRow).values(expires=now_ms() + 3_000_000))
    far = expires()
    assert leaders.lead("reconcile", owner) and expires() == far
    with database.write() as connection:
        connection.execute(update(LeaderRow).values(expires=now_ms() + 1_000))
    near = expires()
    assert leaders.lead("reconcile", owner) and expires() > near


def test_of_many_that_want_to_lead_at_once_one_does(
    database: Database, open_again: Callable[[], Stores], long_term: None
) -> None:
    for round_ in range(5):
        barrier, answers = threading.Barrier(4, timeout=30), []

        def want(duty: str, leaders: LeaderStore, barrier: threading.Barrier, answers: list[bool]) -> None:
            barrier.wait()
            answers.append(leaders.lead(duty, new_id()))

        rivals = [LeaderStore(open_again().database) for _ in range(4)]
        threads = [threading.Thread(target=want, args=(f"duty-{round_}", r, barrier, answers)) for r in rivals]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(answers) == [False, False, False, True]


def test_workers_that_bring_the_same_new_model_at_once_are_all_registered(open_again: Callable[[], Stores]) -> None:
    for round_ in range(5):
        card, barrier, errors = replace(CARD, name=f"mill/new-{round_}"), threading.Barrier(4, timeout=30), []

        def come(stores: Stores, card: ModelCard, barrier: threading.Barrier, errors: list[BaseException]) -> None:
            try:
                stores.workers.live()  # connected
                barrier.wait()
                serve(stores, card)
            except BaseException as error:
                errors.append(error)

        comers = [open_again() for _ in range(4)]
        threads = [threading.Thread(target=come, args=(stores, card, barrier, errors)) for stores in comers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert errors == []
        assert comers[0].workers.live()[card.id] == 4


def test_a_job_that_has_not_begun_goes_to_the_precision_that_is_served_now(stores: Stores, database: Database) -> None:
    # Given two jobs for a float32 worker, one begun, and the worker gone
    worker = serve(stores)
    begun, waiting = submit(stores), submit(stores)
    assert claim(stores, begun, 0, worker)
    stores.leases.release_worker(worker)
    stores.workers.leave(worker)
    # When a worker of the same model comes that computes in bfloat16
    half = replace(CARD, precision="half")
    serve(stores, half)
    # Then it does the job that has not begun; the other keeps its precision, so that its vectors are of one kind
    assert stores.jobs.get(waiting).model_id == half.id
    assert stores.jobs.get(begun).model_id == CARD.id


def test_a_job_stays_with_a_precision_that_is_served(stores: Stores) -> None:
    serve(stores)
    job_id = submit(stores)
    serve(stores, replace(CARD, precision="half"))
    assert stores.jobs.get(job_id).model_id == CARD.id
