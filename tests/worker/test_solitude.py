"""A suspect runs alone; everything else runs together."""

from __future__ import annotations

import threading

import numpy as np

from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.stores import Stores
from tests.acceptance.shell import until
from tests.worker.engines import CARD, Trouble, vector_of
from tests.worker.mill import Mill
from worker.embedding import Embedding
from worker.solitude import Solitude


def waiters(solitude: Solitude) -> int:
    """Return how many wait to be let in."""
    return len(solitude._changed._waiters)  # type: ignore[attr-defined]


class Visitor:
    """A thread that enters, tells so, and stays until it is let go."""

    def __init__(self, solitude: Solitude, alone: bool) -> None:
        self.inside = threading.Event()
        self.leave = threading.Event()
        self._held = lambda: solitude.held(alone)
        self.thread = threading.Thread(target=self._visit, daemon=True)
        self.thread.start()

    def _visit(self) -> None:
        with self._held():
            self.inside.set()
            assert self.leave.wait(100)


def test_those_of_no_suspicion_run_together() -> None:
    solitude = Solitude()
    visitors = [Visitor(solitude, alone=False) for _ in range(4)]
    assert all(visitor.inside.wait(60) for visitor in visitors)
    for visitor in visitors:
        visitor.leave.set()


def test_a_suspect_waits_for_all_others_and_keeps_newcomers_out() -> None:
    # Given work under way
    solitude = Solitude()
    working = Visitor(solitude, alone=False)
    assert working.inside.wait(60)
    # When a suspect comes, and then somebody else
    suspect = Visitor(solitude, alone=True)
    until(lambda: solitude._suspects, "the suspect to wait")
    assert not suspect.inside.wait(0.1)
    newcomer = Visitor(solitude, alone=False)
    assert not newcomer.inside.wait(0.1)
    # Then the suspect enters when the first has left, and the newcomer after it
    working.leave.set()
    assert suspect.inside.wait(60) and not newcomer.inside.wait(0.1)
    suspect.leave.set()
    assert newcomer.inside.wait(60)
    newcomer.leave.set()


def test_two_suspects_take_turns() -> None:
    solitude = Solitude()
    first = Visitor(solitude, alone=True)
    assert first.inside.wait(60)
    second = Visitor(solitude, alone=True)
    until(lambda: solitude._suspects, "the second to wait")
    assert not second.inside.wait(0.1)
    first.leave.set()
    assert second.inside.wait(60)
    second.leave.set()


def test_an_engine_that_fails_on_everything_charges_no_suspect(stores: Stores) -> None:
    # Given a chunk that a process held when it died
    mill = Mill(stores)
    job_id, dead = mill.submit(["plum"]), new_id()
    mill.stores.leases.claim(Pointer(job_id, 0), dead, CARD.id, 0)
    assert mill.stores.leases.release_worker(dead, died=True) == 1
    # When the engine of the next process fails for good before it has read the text
    charged: list[int] = []

    def end() -> None:
        charged.append(mill.stores.leases.release_worker(mill.id, died=True))

    mill.engine.trouble = Trouble("engine_failed")
    Embedding(mill.stores, mill.engine, mill.id, mill.finished.extend, mill._send_next, end).run(Pointer(job_id, 0))
    # Then the process ends holding nothing that could be charged, and the text was not shown to that engine
    assert charged == [0]
    assert all("plum" not in call for call in mill.engine.calls)


def test_a_chunk_that_waits_for_a_suspect_to_finish_is_not_charged_with_its_deed(stores: Stores) -> None:
    # Given a suspect alone in the engine
    mill = Mill(stores)
    job_id, dead = mill.submit(["plum"], ["pear"]), new_id()
    mill.stores.leases.claim(Pointer(job_id, 0), dead, CARD.id, 0)
    mill.stores.leases.release_worker(dead, died=True)
    mill.engine.gated = {"plum"}
    mill.engine.gate.clear()
    threads = [threading.Thread(target=mill.run, args=(job_id, chunk)) for chunk in (0, 1)]
    threads[0].start()
    assert mill.engine.entered.wait(60)
    # When a message of another chunk is taken, and the process dies
    threads[1].start()
    until(lambda: waiters(mill.embedding._solitude) or len(mill.embedding.held()) > 1, "the other to wait, or not to")
    held = mill.stores.leases.release_worker(mill.id, died=True)
    mill.engine.gate.set()
    for thread in threads:
        thread.join(60)
    # Then the suspect alone is charged, and the other chunk was done
    assert held == 1
    assert np.array_equal(mill.matrix(job_id), [vector_of("pear")])
