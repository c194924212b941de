"""How long somebody who has sent all texts of a job waits for it to be accepted, and whether he is still there.

Who waits holds a place; where others want it his patience is ended (`api/uploading.py`).
"""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar

#: The longest, in seconds: what was sent in an hour is worth some minutes.
LONGEST = 900.0

#: The shortest pause between two tries, in seconds.
_PAUSE = 0.2


class Patience:
    """The patience of one who waits.

    Args:
        seconds: How much he has.
    """

    def __init__(self, seconds: float = LONGEST) -> None:
        self._until = time.monotonic() + seconds
        self._gone = threading.Event()

    def end(self) -> None:
        """Say that nobody waits any more."""
        self._gone.set()

    def outlasts(self, seconds: float | None) -> bool:
        """Wait for so long and return True; or False, at once when that is too long, and as soon as nobody waits.

        Args:
            seconds: How long; None: for ever.
        """
        if seconds is None or time.monotonic() + seconds > self._until:
            return False
        return not self._gone.wait(max(seconds, _PAUSE))


#: Of whom the running thread works for; None: of one who would rather hear at once.
of_sender: ContextVar[Patience | None] = ContextVar("of_sender", default=None)
