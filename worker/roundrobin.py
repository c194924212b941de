"""What takes many steps for many jobs, each job in its turn: a huge one keeps no small one waiting."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from storage import counters
from storage.contract.errors import ServerError
from storage.purges import START

logger = logging.getLogger(__name__)


class RoundRobin:
    """All jobs for which one thing is under way, such as the removal of their rows.

    Args:
        step: Does a few rows of a job, behind a place; returns the next place, or None when nothing is left.
        what: What is done, for the log, such as `removed`.
    """

    def __init__(self, step: Callable[[str, int], int | None], what: str) -> None:
        self._step, self._what = step, what
        #: How far each that is under way has come; after a restart each begins anew, and finds what is left.
        self._come: dict[str, int] = {}
        #: Whose step was the last one.
        self._last = ""

    def turn(self, job_ids: Sequence[str], deadline: float) -> tuple[int, bool]:
        """Do steps of some jobs until the time is over, but at least one; go on where the last turn ended.

        Args:
            job_ids: The jobs, of which those that waited longest come first.
            deadline: When the time is over, as `time.monotonic` has it.

        Returns:
            How many steps that were, and whether that was all.

        Raises:
            StorageUnavailable: When the database cannot be reached; the next turn begins with another job.
        """
        waiting = deque(job_ids)
        if self._last in waiting:
            waiting.rotate(-1 - waiting.index(self._last))
        steps = 0
        while waiting:
            if steps and time.monotonic() > deadline:
                return steps, False
            self._last = waiting.popleft()
            steps += 1
            if self._is_left(self._last):
                waiting.append(self._last)
        # Those that somebody else has ended are forgotten too.
        self._come.clear()
        return steps, True

    def _is_left(self, job_id: str) -> bool:
        """Do one step of a job; return whether another one is due in this turn."""
        try:
            after = self._step(job_id, self._come.get(job_id, START))
        except ServerError:
            raise
        except Exception:
            # One for which it cannot be done must not keep the others.
            counters.count("sweeps_failed")
            logger.exception("job %s cannot be %s", job_id, self._what)
            return False
        if after is None:
            # All are forgotten once nothing is left to do; where that never comes, each as it goes.
            self._come.pop(job_id, None)
            return False
        self._come[job_id] = after
        return True
