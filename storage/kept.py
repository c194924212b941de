"""An answer that is dear to find: one for all who ask at once, kept the longer the more it cost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

from storage.contract.errors import ServerError

#: Largest share of time that finding an answer may take: where that takes longer, it is done the less often.
SHARE = 0.05

#: Most seconds for which an answer is kept, whatever it has cost: finding it may have waited for a database in need.
LONGEST = 60.0

T = TypeVar("T")


class Kept(Generic[T]):
    """The last answer; may be asked for by several threads.

    Args:
        find: Finds it anew.
    """

    def __init__(self, find: Callable[[], T]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._found: list[T] = []
        self._due = 0.0
        #: The last failure, and when it was.
        self._failure: tuple[float, ServerError] | None = None

    def get(self) -> T:
        """Return the answer, a little old where finding it takes long: a minute at most.

        Raises:
            StorageUnavailable: When the database cannot be reached; whoever waited for another one's turn meanwhile
                hears of it with that one, since to wait as long again would be in vain.
        """
        asked = monotonic()
        with self._lock:
            if self._failure is not None and self._failure[0] >= asked:
                raise self._failure[1]
            begin = monotonic()
            if begin >= self._due:
                try:
                    self._found = [self._find()]
                except ServerError as error:
                    self._failure = monotonic(), error
                    raise
                self._due = monotonic() + min((monotonic() - begin) / SHARE, LONGEST)
            return self._found[0]
