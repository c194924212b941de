"""`python -m tests.faults.nemesis`: random faults, one after another, while producers submit; then all is judged.

Ends with 1 if anything was lost, done twice, differs, is stuck, or if something is missed that `goals.py` asks for.
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from subprocess import Popen

from tests.faults.encoder import EMBEDDED
from tests.faults.feeder import ENOUGH
from tests.faults.goals import missed_by_nemesis
from tests.faults.mill import Mill
from tests.faults.outcomes import Stopwatch, findings, settle, write
from tests.faults.recoveries import Held, Recovery, facts_of, held_by, held_by_all, spread
from tests.faults.strokes import Stroke, strokes
from tests.faults.struck import struck_mill
from tests.stack import children

#: How many producers submit all the time, and texts that wait before they pause.
FEEDERS, ROOM = 2, 10_000

#: Before each so-many-th fault all that came before is waited for: recovery is measured undisturbed too.
_CALM_EVERY, _CALM_WAIT = 4, 45.0

#: Faults whose recovery is looked for; an older one counts as not recovered.
_RECENT = 20

_LOOK = 0.05


class Nemesis:
    """Strikes a mill.

    Args:
        mill: What is struck.
        feeders: How many producers submit all the time.
        room: Texts that wait before they pause.
        spared: How many of the first supervisors are never struck, nor their children.
        look: Called again and again while time passes.
    """

    def __init__(
        self,
        mill: Mill,
        *,
        feeders: int = FEEDERS,
        room: int = ROOM,
        spared: int = 0,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self.recoveries: list[Recovery] = []
        #: Texts that were held by whoever was struck, and so may be embedded again.
        self.held = 0
        self._mill = mill
        self._room = room
        self._spared = spared
        self._hook = look
        self._feeders = [self._feeder(f"p{i}") for i in range(feeders)]
        #: What lasts: when it ends, and what ends it, by what is struck.
        self._lasting: dict[str, tuple[float, Callable[[], None]]] = {}
        self._strike: dict[str, Callable[[Stroke], list[Held] | None]] = {
            "child killed": self._kill_child,
            "child paused": self._pause_child,
            "worker killed": self._kill_worker,
            "producer killed": self._kill_producer,
            "reconciler killed": self._kill_reconciler,
            "redis killed": lambda stroke: self._kill_redis(stroke, empty=False),
            "redis emptied": lambda stroke: self._kill_redis(stroke, empty=True),
            "redis flushed": self._flush_redis,
            "redis paused": self._pause_redis,
            "database out": self._stop_database if mill.postgres is not None else self._lock_database,
        }

    def strike(self, stroke: Stroke) -> None:
        """Wait until a fault is due and there is what it strikes, and let it happen."""
        self.wait(stroke.gap)
        if stroke.number % _CALM_EVERY == 0:
            self.calm()
        if stroke.struck in self._lasting:
            self.wait(self._lasting[stroke.struck][0] - time.monotonic())
        deadline = time.monotonic() + 60
        recovery = Recovery(stroke.kind, [])
        while (held := self._strike[stroke.kind](stroke)) is None:
            assert time.monotonic() < deadline, f"nothing to strike: {stroke}\n{self._mill.tails()}"
            self.wait(_LOOK)
            recovery = Recovery(stroke.kind, [])
        for before in self.recoveries:
            before.disturbed = before.disturbed or not before.is_over
        self.held += sum(chunk.size for chunk in held)
        recovery.held = held if stroke.struck in ("child", "worker") else []
        self.recoveries.append(recovery)
        if stroke.struck in self._lasting:
            end, undo = self._lasting[stroke.struck]
            self._lasting[stroke.struck] = (end, lambda: self._undo(undo, recovery))
        else:
            self._note_end(recovery)

    def strike_all(self, sequence: Iterable[Stroke], note: Callable[[Stroke], None] = lambda stroke: None) -> None:
        """Let faults happen, one after another; `note` is called after each. Producers have ended then."""
        for stroke in sequence:
            self.strike(stroke)
            note(stroke)
        self.finish()

    def wait(self, seconds: float) -> None:
        """Let things go on for a while; end what lasts when it is due, see what recovers."""
        deadline = time.monotonic() + seconds
        while True:
            self._hook()
            for struck, (end, undo) in list(self._lasting.items()):
                if time.monotonic() >= end:
                    del self._lasting[struck]
                    undo()
            with suppress(ConnectionError):
                for recovery in self.recoveries[-_RECENT:]:
                    if not recovery.is_over:
                        recovery.look(self._mill.plain)
            for feeder in self._feeders:
                assert feeder.poll() is None, f"a producer has ended by itself\n{self._mill.tails()}"
            if time.monotonic() >= deadline:
                return
            time.sleep(_LOOK)

    def calm(self) -> None:
        """Wait until all that was struck has recovered."""
        deadline = time.monotonic() + _CALM_WAIT
        while not all(recovery.is_over for recovery in self.recoveries[-_RECENT:]) and time.monotonic() < deadline:
            self.wait(_LOOK)

    def finish(self) -> None:
        """End what lasts, see the last faults recovered, and let the producers end after the jobs in hand."""
        while self._lasting:
            self.wait(_LOOK)
        self.calm()
        (self._mill.folder / ENOUGH).touch()
        for feeder in self._feeders:
            feeder.wait(120)
            assert feeder.returncode == 0, f"a producer broke\n{self._mill.tails()}"

    def _undo(self, undo: Callable[[], None], recovery: Recovery) -> None:
        undo()
        self._note_end(recovery)

    def _note_end(self, recovery: Recovery) -> None:
        self._mill.wait_for(lambda: recovery.end(self._mill.plain), what="the database to answer")

    def _lasts(self, stroke: Stroke, undo: Callable[[], None]) -> None:
        self._lasting[stroke.struck] = (time.monotonic() + stroke.lasts, undo)

    def _feeder(self, name: str) -> Popen[bytes]:
        process = self._mill.start("tests.faults.feeder", [name, str(self._room)], FAULTS_PLAIN_URL=self._mill.database)
        self._mill.producers.append(process)
        return process

    def _within(self, pids: list[int]) -> list[int]:
        """Return those of some processes that may be struck, in order."""
        struck = {pid for supervisor in self._mill.supervisors[self._spared :] for pid in children(supervisor.pid)}
        return sorted(struck.intersection(pids))

    # Each strikes and returns what was held, or None when there is nobody to be struck now.

    def _kill_child(self, stroke: Stroke) -> list[Held] | None:
        return self._strike_child(stroke, self._mill.kill)

    def _pause_child(self, stroke: Stroke) -> list[Held] | None:
        def pause(pid: int) -> None:
            self._lasts(stroke, lambda: self._mill.thaw(pid))

        return self._strike_child(stroke, pause)

    def _strike_child(self, stroke: Stroke, strike: Callable[[int], None]) -> list[Held] | None:
        pids = self._within(self._mill.worker_pids())
        if not pids:
            return None
        pid = pids[int(stroke.target * len(pids))]
        # Frozen first: what it holds when it dies is then known.
        self._mill.freeze(pid)
        held = self._look(lambda: held_by(self._mill.plain, [pid]))
        strike(pid)
        return held

    def _kill_worker(self, stroke: Stroke) -> list[Held] | None:
        supervisors = self._mill.supervisors[self._spared :]
        supervisor = supervisors[int(stroke.target * len(supervisors))]
        family = [supervisor.pid]
        self._mill.freeze(supervisor.pid)
        family += children(supervisor.pid)
        for pid in family:
            self._mill.freeze(pid)
        held = self._look(lambda: held_by(self._mill.plain, family))
        self._mill.restart_supervisor(supervisor)
        return held

    def _kill_producer(self, stroke: Stroke) -> list[Held]:
        place = int(stroke.target * len(self._feeders))
        killed = self._feeders[place]
        killed.kill()
        killed.wait()
        self._mill.producers.remove(killed)
        self._feeders[place] = self._feeder(f"p{place}")
        return []

    def _kill_reconciler(self, stroke: Stroke) -> list[Held] | None:
        pids = self._within(self._mill.reconciler_pids())
        if not pids:
            return None
        self._mill.kill(pids[int(stroke.target * len(pids))])
        return []

    # A process that cannot tell Redis that it is done may end, and gives back what it holds: all counts as held.

    def _kill_redis(self, stroke: Stroke, empty: bool) -> list[Held]:
        held = held_by_all(self._mill.plain)
        self._mill.redis.kill()
        self._lasts(stroke, lambda: self._mill.redis.start(empty=empty))
        return held

    def _flush_redis(self, stroke: Stroke) -> list[Held]:
        self._mill.redis.cli("FLUSHALL")
        return held_by_all(self._mill.plain)

    def _pause_redis(self, stroke: Stroke) -> list[Held]:
        held = held_by_all(self._mill.plain)
        self._mill.redis.freeze()
        self._lasts(stroke, self._mill.redis.thaw)
        return held

    # Whoever cannot extend his leases for so long loses what he holds.

    def _stop_database(self, stroke: Stroke) -> list[Held]:
        assert self._mill.postgres is not None
        held = held_by_all(self._mill.plain)
        self._mill.postgres.restart()
        return held

    def _lock_database(self, stroke: Stroke) -> list[Held]:
        lock = sqlite3.connect(self._mill.database.removeprefix("sqlite:///"), timeout=60, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        self._lasts(stroke, lock.close)
        return held_by_all(self._mill.plain)

    def _look(self, read: Callable[[], list[Held]]) -> list[Held]:
        # PostgreSQL finishes what a frozen process has sent.
        time.sleep(_LOOK)
        found: list[Held] = self._mill.wait_for(lambda: (read(),), what="the database to answer")[0]
        return found


def waste_of(mill: Mill) -> int:
    """Return how many texts were embedded beyond the once that each needs."""
    with (mill.folder / EMBEDDED).open() as tally:
        embedded = sum(int(line) for line in tally)
    done = "SELECT sum(succeeded + failed) FROM chunks WHERE state = 'done'"
    return embedded - int(mill.plain.value(done) or 0)


def run(database: str, seed: int, faults: int, first: int) -> bool:
    """Strike; return whether all was well."""
    watch = Stopwatch()

    def note(stroke: Stroke) -> None:
        print(f"{watch.seconds:7.1f} s  seed {seed}, fault {stroke.number}: {stroke.kind}", flush=True)

    with struck_mill(database) as mill:
        nemesis = Nemesis(mill)
        nemesis.strike_all(strokes(seed, first, faults), note)
        report = settle(mill)
        again = waste_of(mill)
        facts = {"database": database, "seed": seed, "first": first, **facts_of(nemesis.recoveries), **findings(report)}
        facts |= {"embedded_again": again, "held": nemesis.held, "counters": mill.counters(), "seconds": watch.seconds}
        write("nemesis", facts)
        print(report.summary(), f"{again} texts embedded again, {nemesis.held} held by the struck", sep="\n")
        for kind, values in facts["resumed"].items():
            print(f"{kind}: all {spread(values)}, undisturbed {spread(facts['calm_resumed'].get(kind, []))}")
    missed = missed_by_nemesis(facts)
    print(*missed, sep="\n")
    return report.is_clean and not missed


def main() -> None:
    """Run once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first fault")
    given = parser.parse_args()
    if not run(given.database, given.seed, given.faults, given.first):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
