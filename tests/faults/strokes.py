"""The random faults of the nemesis: fault number i of a seed is the same in any go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

#: Mean seconds from one fault to the next, and the longest.
_MEAN, _LONGEST = 2.0, 8.0

#: Kinds of faults with their weights, of a hundred. A kind's first word is what it strikes.
WEIGHTS = {
    "child killed": 54.0,
    "child paused": 6.0,
    "worker killed": 20.0,
    "producer killed": 8.0,
    "reconciler killed": 5.0,
    "redis killed": 1.5,
    "redis emptied": 1.5,
    "redis flushed": 1.0,
    "redis paused": 1.0,
    "database out": 2.0,
}

#: Least and most seconds that what strikes for a while lasts.
_LASTING = {
    "child paused": (6.0, 10.0),
    "redis killed": (0.5, 5.0),
    "redis emptied": (0.5, 5.0),
    "redis paused": (2.0, 8.0),
    "database out": (1.0, 6.0),
}


@dataclass(frozen=True)
class Stroke:
    """One fault.

    Args:
        number: Its place in the seed's sequence.
        kind: One of `WEIGHTS`.
        gap: Seconds between the fault before it and this one.
        lasts: Seconds until it is undone; 0 where nothing is to be undone.
        target: Which of several it strikes, as a share of their number.
    """

    number: int
    kind: str
    gap: float
    lasts: float
    target: float

    @property
    def struck(self) -> str:
        """What it strikes."""
        return self.kind.split()[0]


def stroke(seed: int, number: int) -> Stroke:
    """Return one fault of a seed's sequence."""
    random = Random(f"{seed}:{number}")
    (kind,) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))
    lasts = random.uniform(*_LASTING.get(kind, (0.0, 0.0)))
    return Stroke(number, kind, min(random.expovariate(1 / _MEAN), _LONGEST), lasts, random.random())


def strokes(seed: int, first: int, count: int) -> Iterator[Stroke]:
    """Yield a part of a seed's sequence."""
    for number in range(first, first + count):
        yield stroke(seed, number)
