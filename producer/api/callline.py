"""Who waits for a call, in the order they came; nobody is kept waiting for what cannot be done in time.

Workers may be slow, and calls many. How much is done a second is measured while several wait, since it is then the
workers who set the pace. Whoever would not be served in time is told so at once, and when to come again: those who
come, and those at the end of the line where it turns out to move too slowly. All of it happens in the event loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from storage.contract.errors import Overloaded

#: Calls that must wait for the pace to be measured, or anybody to be sent away: fewer measure only their own slowness.
_CROWD = 8

#: Seconds of work after which a measurement counts half.
_HALF = 10.0

#: Ends that a pace is believed after, and moments that these must be spread over, each so many seconds after the one
#: before: workers do many calls in one batch, and a first batch that took long, alone, tells no pace.
_BELIEVED, _MOMENTS, _APART = 8, 4, 0.05

#: Seconds without an end after which whoever comes to an empty line hears nothing of the pace of those before him: the
#: workers may be others by now.
_REMEMBERED = 10.0

#: Most seconds between two ends that count as work: a worker that was started again meanwhile was not slow.
_GAP = 5.0

#: Which share of the longest wait is promised to those who come: the rest is for what was misjudged.
_PROMISED = 0.8

#: Seconds after which a call may be sent again, at least; and between two looks along the line, so that who will not be
#: served is told so before his time is over.
_RETRY, _LOOK = 1.0, 0.5


class Place:
    """One who waits.

    Args:
        work: How much his call is, in estimated tokens.
        since: When he came.
    """

    def __init__(self, work: float, since: float) -> None:
        self.work = work
        self.since = since
        #: Done with the reason when he is sent away.
        self.refused: asyncio.Future[Overloaded] = asyncio.get_running_loop().create_future()


class Line:
    """Everybody who waits.

    Args:
        timeout: Longest wait of a call, in seconds.
        clock: Tells the time in seconds.
    """

    def __init__(self, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        # A dictionary for its order.
        self._places: dict[Place, None] = {}
        self._work = self._last = self._looked = 0.0
        self._pace = _Pace()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def pace(self) -> float | None:
        """Estimated tokens a second, or None while that is not known."""
        return self._pace.known

    def join(self, work: float) -> Place:
        """Come to the end of the line.

        Args:
            work: How much the call is, in estimated tokens.

        Raises:
            Overloaded: When it would not be done in time.
        """
        late = self._seconds_for(self._work + work) - self._timeout * _PROMISED
        if late > 0:
            raise self._refusal(late)
        place = Place(work, self._clock())
        if not self._places:
            if place.since - self._last > _REMEMBERED:
                self._pace = _Pace()
            self._last = place.since
        self._places[place] = None
        self._work += work
        return place

    def leave(self, place: Place, done: bool) -> None:
        """Go away.

        Args:
            place: Whose.
            done: Whether his call was done.
        """
        if done:
            now = self._clock()
            if len(self._places) >= _CROWD:
                self._pace.note(place.work, min(now - self._last, _GAP), now)
            self._last = now
        del self._places[place]
        self._work -= place.work
        self.review()

    def overtaken(self, place: Place) -> Overloaded | None:
        """Return why a call was not done in its time where others' were meanwhile, else None.

        Args:
            place: Whose time is over.
        """
        return self._refusal(_RETRY) if self._last > place.since else None

    def review(self) -> None:
        """Send those away who would not be served in time: they leave as soon as they hear of it; others move up."""
        now, before = self._clock(), 0.0
        if now - self._looked < _LOOK:
            return
        self._looked = now
        for place in self._places:
            late = now - place.since + self._seconds_for(before + place.work) - self._timeout + 2 * _LOOK
            if late > 0 and not place.refused.done():
                place.refused.set_result(self._refusal(late))
            before += 0.0 if place.refused.done() else place.work

    def _seconds_for(self, work: float) -> float:
        """Return how many seconds so much work takes from now on; minus infinity where nobody is to be sent away."""
        pace = self.pace
        return -math.inf if pace is None or len(self._places) < _CROWD else work / pace

    def _refusal(self, late: float) -> Overloaded:
        return Overloaded(
            f"{len(self._places)} calls are waiting, more than can be done within {self._timeout:g} s.",
            "Send it again later, or submit a job, which waits.",
            max(_RETRY, min(late, self._timeout)),
        )


class _Pace:
    """How fast workers are, by the calls whose ends were seen one after another."""

    def __init__(self) -> None:
        self._done = self._seconds = self._moment = 0.0
        self._ends = self._moments = 0

    @property
    def known(self) -> float | None:
        """Estimated tokens a second, or None while that is not known."""
        sure = self._ends >= _BELIEVED and self._moments >= _MOMENTS
        return self._done / self._seconds if sure else None

    def note(self, work: float, passed: float, now: float) -> None:
        """Note an end.

        Args:
            work: How much was done, in estimated tokens.
            passed: Seconds since the end before it, or since the line began.
            now: The time, in seconds.
        """
        kept = 0.5 ** (passed / _HALF)
        self._done, self._seconds = self._done * kept + work, self._seconds * kept + passed
        self._ends += 1
        if now - self._moment >= _APART:
            self._moment, self._moments = now, self._moments + 1
