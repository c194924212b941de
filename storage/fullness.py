"""Who hears in this process that the database's disk is full: a full database cannot count that itself."""

from __future__ import annotations

from collections.abc import Callable

_listeners: list[Callable[[], object]] = []


def listen(listener: Callable[[], object]) -> None:
    """Have somebody told of each write that is refused for want of room.

    Args:
        listener: Called from whichever thread met it.
    """
    _listeners.append(listener)


def met() -> None:
    """Tell that a write was refused for want of room."""
    for listener in list(_listeners):
        listener()
