"""A suspect runs alone; everything else runs together."""

from __future__ import annotations

import threading

from worker.solitude import Solitude


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
            assert self.leave.wait(30)


def test_those_of_no_suspicion_run_together() -> None:
    solitude = Solitude()
    visitors = [Visitor(solitude, alone=False) for _ in range(4)]
    assert all(visitor.inside.wait(30) for visitor in visitors)
    for visitor in visitors:
        visitor.leave.set()


def test_a_suspect_waits_for_all_others_and_keeps_newcomers_out() -> None:
    # Given work under way
    solitude = Solitude()
    working = Visitor(solitude, alone=False)
    assert working.inside.wait(30)
    # When a suspect comes, and then somebody else
    suspect = Visitor(solitude, alone=True)
    assert not suspect.inside.wait(0.1)
    newcomer = Visitor(solitude, alone=False)
    assert not newcomer.inside.wait(0.1)
    # Then the suspect enters when the first has left, and the newcomer after it
    working.leave.set()
    assert suspect.inside.wait(30) and not newcomer.inside.wait(0.1)
    suspect.leave.set()
    assert newcomer.inside.wait(30)
    newcomer.leave.set()


def test_two_suspects_take_turns() -> None:
    solitude = Solitude()
    first = Visitor(solitude, alone=True)
    assert first.inside.wait(30)
    second = Visitor(solitude, alone=True)
    assert not second.inside.wait(0.1)
    first.leave.set()
    assert second.inside.wait(30)
    second.leave.set()
