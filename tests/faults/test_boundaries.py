"""Every boundary a text passes, times every way to fail there: killed, an error, frozen past the lease, no database.

`FAULTS=full` runs them all; otherwise each boundary is met at least once, on one database or the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from storage.contract.failpoints import NAMES
from tests.faults.bent import keeps_others_out
from tests.faults.forms import FULL, scenario
from tests.faults.mill import Mill
from tests.faults.running import running_mill

LEASE = 1.5

#: Whoever is frozen is to wake up, however long the others take: no supervisor may kill him before.
_PATIENT = {"FAULTS_SILENCE": "600"}

ACTIONS = ("kill", "raise", "stop", "drop")

#: What happens in the process that submits.
OF_PRODUCERS = ("submit.appended", "submit.sealing", "submit.sealed")

#: What whoever sends may pass: producer, worker or reconciler.
OF_SENDERS = ("dispatch.marking", "dispatch.marked", "dispatch.sent")

#: Where a worker holds leases and is inside no transaction, so that others can take over.
HOLDING = ("claim.committed", "embed.begin", "embed.end")

#: The short form's own, on SQLite: what is most likely to lose or to double something.
ALWAYS = {("commit.written", "kill"), ("embed.end", "stop"), ("commit.committed", "drop")}


def cases(kind: str) -> list[tuple[str, str]]:
    every = [(name, action) for name in NAMES for action in ACTIONS]
    if FULL:
        return every
    turn = ["sqlite", "postgresql"].index(kind)
    chosen = {(name, ACTIONS[(i // 2 + turn) % 4]) for i, name in enumerate(NAMES) if i % 2 == turn}
    return [case for case in every if case in chosen or (kind == "sqlite" and case in ALWAYS)]


class Mills:
    """The one mill that runs: of the kind that was asked for last."""

    def __init__(self) -> None:
        self._kind = ""
        self._mill: Mill
        self._stack = ExitStack()

    def of(self, kind: str) -> Mill:
        if kind != self._kind:
            self.close()
            self._mill = self._stack.enter_context(running_mill(kind, slots=2, lease=LEASE, good_life=0.0, **_PATIENT))
            self._kind = kind
        return self._mill

    def close(self) -> None:
        self._kind = ""
        self._stack.close()


@pytest.fixture(scope="module")
def mills() -> Iterator[Mills]:
    running = Mills()
    yield running
    running.close()


@scenario("F4")
@pytest.mark.parametrize(
    ("kind", "name", "action"),
    [(kind, name, action) for kind in ("sqlite", "postgresql") for name, action in cases(kind)],
)
def test_a_fault_at_a_boundary_loses_and_doubles_nothing(mills: Mills, kind: str, name: str, action: str) -> None:
    # Given a mill at rest, and a fault that waits at the boundary
    mill = mills.of(kind)
    mill.wait_for(lambda: mill.ready_workers() == 2 and len(mill.reconciler_pids()) == 1, what="all to be ready")
    before = mill.counters()
    shot = "stop" if action == "drop" and mill.postgres else "fail" if action == "drop" else action
    mill.arm(name, shot)
    if name == "release.writing":
        mill.arm("embed.begin", "kill")
    # When a job comes that way
    accepted = len(mill.ledger.accepted())
    if name in (*OF_PRODUCERS, *OF_SENDERS):
        # What is small enough is accepted in one transaction, and appended to by none.
        count = 600 if name == "submit.appended" else 80
        producer = mill.start_producer(count, length=2_000, key=f"{name}-{action}")
    else:
        producer = None
        mill.submit(80, length=2_000)
    victim = mill.wait_fired(name, shot)
    if action == "stop" and name in HOLDING:
        victim = outside_of_transactions(mill, name, victim)
    if shot == "stop":
        hold(mill, name, action, victim)
    mill.wait_for(lambda: not mill.revive_supervisors(), what="the supervisor")
    # Then whoever submitted was told the truth
    if producer is not None:
        told = producer.wait(60)
        mill.producers.remove(producer)
        assert told == 0 or (producer.pid == victim and action != "stop")
        assert (told == 0) == (len(mill.ledger.accepted()) > accepted)
    # And nothing is lost, nothing twice
    mill.wait_complete()
    mill.judge().assert_clean()
    # And the defence that is there for it was at work
    for counter in defences(name, action):
        mill.wait_counted(counter, before.get(counter, 0))


def outside_of_transactions(mill: Mill, name: str, victim: int) -> int:
    """Return a frozen process that keeps nobody else out: another thread of the victim may stand in a transaction."""
    while keeps_others_out(mill):
        mill.thaw(victim)
        mill.wait_complete()
        mill.arm(name, "stop")
        mill.submit(80, length=2_000)
        victim = mill.wait_fired(name, "stop")
    return victim


def hold(mill: Mill, name: str, action: str, victim: int) -> None:
    """Keep a frozen process frozen until others have done its work, or its connections are cut; then let it go on."""
    if action == "drop":
        mill.cut_connections()
    elif name in HOLDING:
        mill.wait_complete()
    else:
        time.sleep(LEASE + 0.5)
    mill.thaw(victim)


def defences(name: str, action: str) -> list[str]:
    """Return the counters that must have risen."""
    if name.startswith("reconcile."):
        return ["sweeps_failed"] if action == "raise" else []
    if name in (*OF_PRODUCERS, *OF_SENDERS, "release.writing"):
        return []
    if action == "kill":
        return ["workers_died"]
    if action == "stop" and name in HOLDING:
        return ["leases_expired", "commits_late"]
    return []
