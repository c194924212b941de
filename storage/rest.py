"""Keeps away for a while from a server that did not answer in time, so that not everybody waits for it in turn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

#: An attempt that failed after so long was waited for, in seconds; one that fails at once may be made again at once.
_SLOW = 0.3

#: How long to keep away, in seconds.
_REST = 5.0


class Rest:
    """Notes how long failed attempts took."""

    def __init__(self) -> None:
        self._until = 0.0

    @property
    def due(self) -> bool:
        """Whether no attempt should be made now."""
        return time.monotonic() < self._until

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Hold an attempt: when it raises after a long wait, a rest begins."""
        began = time.monotonic()
        try:
            yield
        except Exception:
            now = time.monotonic()
            if now - began > _SLOW:
                self._until = now + _REST
            raise
