"""How often something is looked at that costs the more the larger it is, such as a job whose chunks are counted."""

from __future__ import annotations

#: Largest share of time that looking may take.
_SHARE = 0.05

#: Longest pause, in seconds, whatever a look has cost: it may have waited for a database that was away.
_LONGEST = 60.0


def pause(cost: float, least: float) -> float:
    """Return for how many seconds nobody looks again.

    Args:
        cost: How long the last look took, in seconds.
        least: The shortest pause.
    """
    return max(least, min(cost / _SHARE - cost, _LONGEST))
