"""Room for bodies that are kept in memory as a whole: how much of it they may take at a time, decoded and parsed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from storage.contract.errors import Overloaded

#: Largest bodies for which there is room at a time, where there is memory for as many.
_LARGEST_AT_ONCE = 16

#: Bytes of memory that a byte of a body takes, as it came, decoded and parsed, where one rare letter in a text makes
#: four bytes of each; and those that a name in JSON takes besides (`{"text": "a"}`), for the objects made of it.
_GROWS, _NAMED = 8, 500

#: Bytes of each body that need no room: what is small is never refused for what is large.
FREE = 65_536

#: Seconds after which a body may be sent again that found no room.
_RETRY = 2

#: Where a container's limit of memory is told, by either generation of control groups; no number where it has none.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class BodyRoom:
    """The memory that bodies take until their requests are answered; used by the event loop alone.

    Args:
        largest: Bytes of the largest body; there is always room for one.
        memory: Bytes of memory that this process may take, of which bodies get half; None: as found.
    """

    def __init__(self, largest: int, memory: int | None = None) -> None:
        half = (_memory() if memory is None else memory) // 2
        self._most = self._free = max(_GROWS * largest, min(_LARGEST_AT_ONCE * _GROWS * largest, half))

    def body(self) -> BodyMemory:
        """Return what counts one more body; it takes nothing yet."""
        return BodyMemory(self)

    def take(self, size: int) -> None:
        """Take room for some more of a body.

        Args:
            size: Bytes of memory.

        Raises:
            Overloaded: When there is none now.
        """
        if size > self._free:
            raise Overloaded("Other large bodies are being read or worked at.", "Send it again in a moment.", _RETRY)
        self._free -= size

    def leave(self, size: int) -> None:
        """Give room back.

        Args:
            size: As much as was taken.
        """
        self._free += size

    def needed(self, size: int, names: int) -> int:
        """Return how many bytes of memory a body takes; a single one never more than there is.

        Args:
            size: Bytes of the body.
            names: Colons in it.
        """
        return min(self._most, _GROWS * (size - FREE) + _NAMED * names) if size > FREE else 0


class BodyMemory:
    """The memory that one body takes.

    Args:
        room: Where it is taken from.
    """

    def __init__(self, room: BodyRoom) -> None:
        self._room = room
        self._size = self._names = self._taken = 0

    def add(self, size: int, names: int = 0) -> None:
        """Take room for some more of the body.

        Args:
            size: Bytes that came of it.
            names: Colons in them.

        Raises:
            Overloaded: When there is none now.
        """
        size, names = self._size + size, self._names + names
        needed = self._room.needed(size, names) - self._taken
        self._room.take(needed)
        self._size, self._names = size, names
        self._taken += needed

    def leave(self) -> None:
        """Give back what it took."""
        self._room.leave(self._taken)
        self._taken = 0


def _memory() -> int:
    """Return how many bytes of memory this process may take: its container's, or the machine's."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _LIMITS:
        with suppress(OSError, ValueError):
            return min(most, int(Path(path).read_text()))
    return most
