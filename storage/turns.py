"""One of several threads does what is dear; the others wait for what it finds, and hold nothing meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from storage.contract.errors import ServerError


class Turn:
    """The work of the thread whose turn it is."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._failure: ServerError | None = None

    def wait(self) -> None:
        """Wait until it is over; then look for what was found, and take a turn where nothing was.

        Raises:
            ServerError: What it has failed with: to wait as long again would be in vain.
        """
        self._over.wait()
        if self._failure is not None:
            raise self._failure

    def end(self, failure: ServerError | None = None) -> None:
        """Say that it is over.

        Args:
            failure: What it has failed with, which those who wait hear too; whoever asks later tries again.
        """
        self._failure = failure
        self._over.set()


class Turns:
    """Turns at several things; of each somebody has one, or nobody, and no more is kept than turns that are taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[str, Turn] = {}

    @contextmanager
    def turn(self, key: str) -> Iterator[Turn | None]:
        """Have the turn in the block, which is given None; or be given that of who has it, to wait for it afterwards.

        Args:
            key: What is to be done.
        """
        mine = Turn()
        with self._lock:
            taken = self._taken.setdefault(key, mine)
        if taken is not mine:
            yield taken
            return
        failure: ServerError | None = None
        try:
            yield None
        except ServerError as error:
            failure = error
            raise
        finally:
            with self._lock:
                del self._taken[key]
            mine.end(failure)
