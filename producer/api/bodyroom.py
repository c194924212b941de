"""Room for bodies that are kept in memory as a whole: how much of it they may take at a time, decoded and parsed."""

from __future__ import annotations

import os
import random
from collections import Counter
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

#: Seconds, from and to, after which a body may be sent again that found no room: who met here shall not meet again.
_RETRY = (2, 5)

#: Where a container's limit of memory is told, by either generation of control groups; no number where it has none.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class BodyRoom:
    """The memory that bodies take until their requests are answered; used by the event loop alone.

    Bodies of one key take no more of it than is free, so that one alone never gets more than half; but where a key has
    only one, that may be of any size, as far as there is room at all.

    Args:
        largest: Bytes of the largest body; there is always room for one.
        memory: Bytes of memory that this process may take, of which bodies get half; None: as found.
    """

    def __init__(self, largest: int, memory: int | None = None) -> None:
        half = (_memory() if memory is None else memory) // 2
        self._largest = _GROWS * largest
        self._most = self._free = max(self._largest, min(_LARGEST_AT_ONCE * self._largest, half))
        self._held: Counter[str] = Counter()

    @property
    def is_crowded(self) -> bool:
        """Whether one of the largest bodies would find no room now."""
        return self._free < self._largest

    def body(self, key_id: str = "") -> BodyMemory:
        """Return what counts one more body; it takes nothing yet.

        Args:
            key_id: The key of who sends it; empty where no keys are used, and then there is nobody to share with.
        """
        return BodyMemory(self, key_id)

    def take(self, key_id: str, size: int, had: int) -> None:
        """Take room for some more of a body.

        Args:
            key_id: See `body`.
            size: Bytes of memory.
            had: Those that it took before.

        Raises:
            Overloaded: When there is none now, or none for this key.
        """
        free, held = self._free - size, self._held[key_id] + size
        if free < 0:
            raise _full("Other large bodies are being read or worked at.")
        if key_id and size and held > had + size and held > free:
            raise _full("Large bodies of this API key take as much memory as is left for others.")
        self._free = free
        self._held[key_id] = held

    def leave(self, key_id: str, size: int) -> None:
        """Give room back.

        Args:
            key_id: See `body`.
            size: As much as was taken.
        """
        self._free += size
        self._held[key_id] -= size
        if not self._held[key_id]:
            del self._held[key_id]

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
        key_id: The key of who sends it; empty where no keys are used.
    """

    def __init__(self, room: BodyRoom, key_id: str) -> None:
        self._room = room
        self._key_id = key_id
        self._size = self._names = self._taken = 0

    @property
    def crowds(self) -> bool:
        """Whether it takes room while one of the largest bodies would find none."""
        return self._taken > 0 and self._room.is_crowded

    def add(self, size: int, names: int = 0) -> None:
        """Take room for some more of the body.

        Args:
            size: Bytes that came of it.
            names: Colons in them.

        Raises:
            Overloaded: When there is none now, or none for its key.
        """
        size, names = self._size + size, self._names + names
        needed = self._room.needed(size, names) - self._taken
        self._room.take(self._key_id, needed, self._taken)
        self._size, self._names = size, names
        self._taken += needed

    def leave(self) -> None:
        """Give back what it took."""
        self._room.leave(self._key_id, self._taken)
        self._taken = 0


def _full(message: str) -> Overloaded:
    return Overloaded(message, "Send it again in a moment.", random.randint(*_RETRY))


def _memory() -> int:
    """Return how many bytes of memory this process may take: its container's, or the machine's."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _LIMITS:
        with suppress(OSError, ValueError):
            return min(most, int(Path(path).read_text()))
    return most
