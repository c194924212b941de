"""Room for bodies that are kept in memory as a whole: how many bytes of them there may be at a time."""

from __future__ import annotations

from storage.contract.errors import Overloaded

#: Largest bodies for which there is room at a time.
_LARGEST_AT_ONCE = 16

#: Bytes of each body that need no room: what is small is never refused for what is large.
FREE = 65_536

#: Seconds after which a body may be sent again that found no room.
_RETRY = 2


class BodyRoom:
    """The memory that bodies take until their requests are answered; used by the event loop alone.

    Args:
        largest: Bytes of the largest body.
    """

    def __init__(self, largest: int) -> None:
        self._free = _LARGEST_AT_ONCE * largest

    def take(self, size: int) -> None:
        """Take room for some more of a body.

        Args:
            size: Bytes, beyond those that need none.

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
