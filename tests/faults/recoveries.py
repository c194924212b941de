"""How long work took to go on after a fault: until what was held is taken up again, until new work is written."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.plain import PlainDatabase

_LEASED = "SELECT c.job_id, c.number, c.token, c.size FROM chunks c"


@dataclass(frozen=True)
class Held:
    """A chunk that somebody held, by the token he held it with."""

    job: Any
    number: int
    token: int
    size: int


def held_by(database: PlainDatabase, pids: Sequence[int]) -> list[Held]:
    """Return the chunks that processes hold."""
    query = f"{_LEASED} JOIN workers w ON w.id = c.lease_owner WHERE c.state = 'leased' AND w.pid = ?"
    return [Held(*row) for pid in pids for row in database.rows(query, (pid,))]


def held_by_all(database: PlainDatabase) -> list[Held]:
    """Return all chunks that anybody holds."""
    return [Held(*row) for row in database.rows(f"{_LEASED} WHERE c.state = 'leased'")]


@dataclass
class Recovery:
    """One fault's.

    Args:
        kind: What kind of fault.
        held: The chunks that whoever was struck held.
        began: When it struck.
        ended: When it was over, on the same clock; None while it lasts.
        disturbed: Whether another fault came before all had recovered.
        retaken: Seconds from its beginning until all that was held was taken up again, or done.
        resumed: Seconds from its end until a chunk was written that was claimed after it.
    """

    kind: str
    held: list[Held]
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    disturbed: bool = False
    retaken: float | None = None
    resumed: float | None = None
    _mark: int = 0
    _in_hand: set[tuple[str, int, int]] = field(default_factory=set)

    def end(self, database: PlainDatabase) -> bool:
        """Note that the fault is over; return true, so that a database that is away can be waited for."""
        self._in_hand = {(str(held.job), held.number, held.token) for held in held_by_all(database)}
        self._mark = int(database.value("SELECT max(id) FROM commit_log") or 0)
        self.ended = time.monotonic()
        return True

    @property
    def is_over(self) -> bool:
        """Whether everything goes on."""
        return self.retaken is not None and self.resumed is not None

    def look(self, database: PlainDatabase) -> None:
        """See what goes on again."""
        if self.retaken is None and not self._is_waiting(database):
            self.retaken = time.monotonic() - self.began
        if self.resumed is None and self.ended is not None and self._has_resumed(database):
            self.resumed = time.monotonic() - self.ended

    def _is_waiting(self, database: PlainDatabase) -> bool:
        if not self.held:
            return False
        waiting = "state IN ('pending', 'dispatched', 'leased') AND job_id = ? AND number = ? AND token <= ?"
        for held in self.held:
            if database.value(f"SELECT count(*) FROM chunks WHERE {waiting}", held.job, held.number, held.token):
                return True
        return False

    def _has_resumed(self, database: PlainDatabase) -> bool:
        query = "SELECT id, job_id, number, token FROM commit_log WHERE id > ? ORDER BY id"
        for mark, *written in database.rows(query, (self._mark,)):
            self._mark = mark
            if tuple(written) not in self._in_hand:
                return True
        return False


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Return how many there are, the median, the 99th percentile (nearest rank) and the greatest."""
    if not values:
        return {"n": 0}
    ordered = sorted(values)

    def rank(share: float) -> float:
        return round(ordered[math.ceil(share * len(ordered)) - 1], 2)

    return {"n": len(ordered), "p50": rank(0.5), "p99": rank(0.99), "max": round(ordered[-1], 2)}


def facts_of(recoveries: Sequence[Recovery]) -> dict[str, Any]:
    """Return the faults by kind, and how long recovering took; all values, so that several runs can be joined."""
    names = ("retaken", "resumed", "calm_retaken", "calm_resumed")
    times: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in names}
    for recovery in recoveries:
        taken = {"retaken": recovery.retaken if recovery.held else None, "resumed": recovery.resumed}
        for name, seconds in taken.items():
            if seconds is not None:
                times[name][recovery.kind].append(round(seconds, 2))
                if not recovery.disturbed:
                    times[f"calm_{name}"][recovery.kind].append(round(seconds, 2))
    return {
        "faults": len(recoveries),
        "by_kind": dict(Counter(recovery.kind for recovery in recoveries)),
        "unrecovered": sum(not recovery.is_over for recovery in recoveries),
        **times,
    }
