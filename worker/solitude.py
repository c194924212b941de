"""Lets a suspected chunk run alone in its process, so that a death can be laid at its door."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Solitude:
    """Shared by work of no suspicion, held alone by a suspect; a waiting suspect keeps newcomers out."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._suspects = 0
        self._alone = False

    @contextmanager
    def held(self, alone: bool) -> Iterator[None]:
        """Work beside others, or with nobody beside.

        Args:
            alone: Whether nothing else may run meanwhile.
        """
        with self._changed:
            if alone:
                self._suspects += 1
                self._changed.wait_for(lambda: not self._sharing and not self._alone)
                self._suspects -= 1
                self._alone = True
            else:
                self._changed.wait_for(lambda: not self._alone and not self._suspects)
                self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                if alone:
                    self._alone = False
                else:
                    self._sharing -= 1
                self._changed.notify_all()
