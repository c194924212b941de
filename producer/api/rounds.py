"""A thread that does something again and again, whatever comes of it, until it is told to stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from storage.contract.errors import ServerError

logger = logging.getLogger(__name__)

#: Shortest pause after a round that failed, in seconds: what fails at once must not fill the log and a core.
_AFTER_FAILURE = 1.0

#: Longest wait for the round under way when it is to end, in seconds.
_LAST_ROUND = 5.0


class Rounds:
    """Does it in a daemon thread: one that died unseen would be missed by nobody, and what it does by all.

    Args:
        name: What is done, in a word: the thread's name.
        do: Does it once.
        pause: Seconds between two rounds.
    """

    def __init__(self, name: str, do: Callable[[], None], pause: float) -> None:
        self._name = name
        self._do = do
        self._pause = pause
        #: Set from the moment on at which it is to end; a long round looks at it.
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin with the first round."""
        self._thread.start()

    def stop(self) -> None:
        """End after the round under way, which is not waited for for ever."""
        self.stopping.set()
        self._thread.join(_LAST_ROUND)

    def _run(self) -> None:
        while not self.stopping.wait(self._pause if self._round() else max(self._pause, _AFTER_FAILURE)):
            pass

    def _round(self) -> bool:
        """Do it once; return whether that went well."""
        try:
            self._do()
            return True
        except ServerError as error:
            # `/readyz` says so.
            logger.debug("%s: the database is waited for: %s", self._name, error)
        except Exception:
            logger.exception("%s: a round failed", self._name)
        return False
