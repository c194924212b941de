"""What tells a living worker process that it must end: an engine that hangs, messages that do not reach it.

Celery over Redis was seen to stop consuming after ordinary network faults, and a device to stop answering; only a new
process helps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from storage import counters
from worker import exits

#: An engine whose oldest work makes no progress for so long hangs, in seconds.
STALL = 120.0


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a process must end.

    Args:
        counter: What is counted, one of `storage.counters.MEANINGS`.
        why: In words.
        code: What it ends with.
    """

    counter: str
    why: str
    code: int = exits.STALLED

    def __post_init__(self) -> None:
        if self.counter not in counters.MEANINGS:
            raise KeyError(self.counter)


#: Returns why the process must end, or None.
Watch = Callable[[], Ending | None]


def stall(progress: Callable[[], float], patience: float = STALL) -> Watch:
    """Return a watch over an engine.

    Args:
        progress: Returns since when the oldest work under way makes no progress, on `time.monotonic`'s clock; now while
            there is none.
        patience: Seconds without progress.
    """

    def watch() -> Ending | None:
        if time.monotonic() - progress() <= patience:
            return None
        return Ending("workers_stalled", f"the engine has made no progress for {patience:.0f} s")

    return watch
