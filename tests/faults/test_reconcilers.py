"""Reconcilers that race: with each other, with commits, and one that wakes up after another has taken over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from storage import counters
from storage.contract.models import Priority
from storage.stores import Stores
from tests.faults.forms import FULL, KINDS, full, scenario
from tests.faults.mill import Mill
from tests.faults.running import running_mill
from tests.faults.stress import Messages, StressedWorker
from tests.repeating import repeating
from tests.storage.builders import CARD, submit
from worker import reconciler as reconciling
from worker.reconciler import Reconciler

#: Chunks that race, of two items each.
CHUNKS = 4_000 if FULL else 150

#: In seconds: about as long as the work on a chunk takes.
LEASE = 0.03

PATIENCE = 600 if FULL else 100


def wait_until_done(stores: Stores, job_id: str, raised: list[BaseException]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not stores.statuses.get(job_id).is_final:
        assert not raised, raised
        assert time.monotonic() < deadline, stores.statuses.get(job_id)
        time.sleep(0.05)
    assert not raised, raised


def check_once(stores: Stores, job_id: str, workers: list[StressedWorker]) -> None:
    """Every chunk was written by exactly one attempt, and what is kept is what that one was told."""
    written = workers[0].written + workers[1].written
    assert set(written.values()) == {1}
    assert sorted(number for _, number, _ in written) == list(range(CHUNKS))
    with stores.database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT CAST(c.job_id AS TEXT), c.number, r.token FROM chunks c"
            " JOIN results r ON r.job_id = c.job_id AND r.number = c.number WHERE c.state = 'done'"
        )
        assert {tuple(row) for row in rows} == set(written)
    values = [page.matrix()[0, 0] for page in stores.results.pages(job_id)]  # type: ignore[index]
    assert values == [float(number + 1) for number in range(CHUNKS)]
    assert stores.statuses.get(job_id).succeeded == 2 * CHUNKS


def opened(open_again: Callable[[], Stores], lease: float) -> Stores:
    stores = open_again()
    return Stores.on(stores.database, lease=int(1000 * lease))


@scenario("F43")
@pytest.mark.timeout(1_200)
def test_a_chunk_that_is_committed_while_its_lease_runs_out_stays_done(open_again: Callable[[], Stores]) -> None:
    # Given chunks whose leases last about as long as the work on them
    stores = open_again()
    workers = [StressedWorker(opened(open_again, LEASE), LEASE) for _ in range(2)]
    messages = Messages(lost=0.0)
    job_id = submit(stores, CHUNKS)
    counters.take()

    def answer(worker: StressedWorker) -> None:
        if pointer := messages.take():
            worker.answer(pointer)

    def expire() -> None:
        stores.leases.release_expired()
        messages.send(stores.chunks.dispatch(CARD.id, Priority.BULK), "")

    # When they are done while two take back what is late, and all that is sent is taken for lost at times
    with repeating(
        lambda: answer(workers[0]),
        lambda: answer(workers[0]),
        lambda: answer(workers[1]),
        lambda: answer(workers[1]),
        expire,
        lambda: (time.sleep(LEASE), stores.leases.release_expired(), stores.chunks.redispatch(100)),
    ) as raised:
        wait_until_done(stores, job_id, raised)
    # Then what was done has stayed so
    check_once(stores, job_id, workers)
    counted = counters.take()
    assert counted["leases_expired"] > 0 and counted["commits_late"] > 0


@scenario("F42")
@pytest.mark.timeout(1_200)
def test_two_reconcilers_that_both_believe_to_lead_do_no_harm(
    open_again: Callable[[], Stores], redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two reconcilers that sweep all the time, messages of which some are lost, and workers that are late
    monkeypatch.setattr(reconciling, "MISSED_AFTER", 200)
    messages = Messages(lost=0.1)
    stores = open_again()
    workers = [StressedWorker(opened(open_again, 2 * LEASE), LEASE) for _ in range(2)]
    sweeping = [Reconciler(opened(open_again, LEASE), redis_server, messages.send) for _ in range(2)]
    job_id = submit(stores, CHUNKS)
    before = stores.counters.all()

    def answer(worker: StressedWorker) -> None:
        if pointer := messages.take():
            worker.answer(pointer)

    # When they do a job together
    with repeating(
        sweeping[0].sweep,
        sweeping[1].sweep,
        lambda: answer(workers[0]),
        lambda: answer(workers[1]),
    ) as raised:
        wait_until_done(stores, job_id, raised)
    # Then each chunk was done once, though messages were sent twice
    check_once(stores, job_id, workers)
    stores.counters.flush()
    after: dict[str, Any] = stores.counters.all()
    assert after["messages_resent"] > before["messages_resent"]
    assert after["sweeps_failed"] == before["sweeps_failed"] == after["invariants_broken"] == 0


def _forgotten_and_resent(mill: Mill) -> bool:
    """Have Redis forget everything once more: only at times does a message wait there, and not with a worker."""
    mill.redis.cli("FLUSHALL")
    return mill.counters().get("messages_resent", 0) > 0


@full
@scenario("F42")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["reconcile.begin", "reconcile.expired", "reconcile.recovered"])
def test_a_leader_that_wakes_up_after_another_took_over_does_no_harm(kind: str, place: str) -> None:
    with running_mill(kind, workers=2, pause=0.4) as mill:
        # Given a job that two workers are at, and two reconcilers
        assert len(mill.reconciler_pids()) == 2
        job_id = mill.submit(3_000, length=2_000)
        mill.seconds_until_progress()
        # When the one that leads stands still in the midst of a sweep, and Redis forgets everything
        mill.arm(place, "stop")
        leader = mill.wait_fired(place, "stop")
        (owner,) = mill.sql("SELECT owner FROM leaders")
        mill.redis.cli("FLUSHALL")
        stopped = time.monotonic()
        # Then the other one takes over
        mill.wait_for(lambda: mill.sql("SELECT owner FROM leaders") not in ([], [owner]), what="another leader")
        mill.record("F42", "seconds until another leads", time.monotonic() - stopped)
        mill.wait_for(lambda: _forgotten_and_resent(mill), what="a message that was sent again")
        mill.seconds_until_progress()
        mill.record("F42", "seconds until work went on", time.monotonic() - stopped)
        # And when the first one goes on, work goes on, and at most a window of messages is doubled
        dropped = mill.counters().get("messages_dropped", 0)
        mill.thaw(leader)
        mill.wait_complete()
        doubled = mill.counters().get("messages_dropped", 0) - dropped
        mill.record("F42", "messages doubled", doubled)
        assert doubled <= 8
        assert mill.client.job(job_id).status().succeeded == 3_000
