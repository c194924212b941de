"""How long a request that failed is tried again, and how long to pause before each new try."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

#: The longest first pause, which doubles from try to try, and the longest of all, in seconds.
_FIRST, _LONGEST = 0.25, 10.0


class Patience:
    """Counts the tries of one request; whoever gets on meanwhile may be patient anew.

    Pauses are drawn between nothing and a limit that grows ("full jitter"), so that many clients that were cut off at
    one moment do not come back at one moment.

    Args:
        seconds: How long it lasts.
        clock: Tells seconds that only grow.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds = seconds
        self._clock, self._sleep = clock, sleep
        self.renew()

    def renew(self) -> None:
        """Begin again, because something was reached."""
        self._until = self._clock() + self._seconds
        self.tries = 0

    def lasts(self, retry_after: float | None = None) -> bool:
        """Pause before another try; return False at once where there is no time left for one.

        Args:
            retry_after: Seconds that the other side asked for; None: it asked for none.
        """
        self.tries += 1
        limit = min(_LONGEST, _FIRST * 2 ** min(self.tries - 1, 16))
        pause = (retry_after or 0.0) + random.uniform(0, limit)
        left = self._until - self._clock()
        if left <= 0 or (retry_after or 0.0) > left:
            return False
        self._sleep(min(pause, left))
        return True
