"""How long a chunk waits that was given back: at random, so that those that failed together do not come together."""

from __future__ import annotations

import random

#: The longest, in milliseconds.
LONGEST = 60_000

#: Most where a server is away; and what is doubled with each failure that nobody foresaw, in milliseconds.
_SERVER, _DOUBLED = 5_000, 1_000


def without_server() -> int:
    """Return a delay in milliseconds for chunks that were given back since a server is away."""
    return _within(_SERVER)


def after(failures: int) -> int:
    """Return a delay in milliseconds that doubles with each failure that nobody foresaw, up to the longest.

    Args:
        failures: How many there have been.
    """
    return _within(min(LONGEST, _DOUBLED * 2**failures))


def _within(milliseconds: int) -> int:
    """Return a random delay of at most so many milliseconds ("full jitter")."""
    return int(random.random() * milliseconds)
