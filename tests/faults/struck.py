"""The mill that random faults strike, in the nemesis and in the soak."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.mill import Mill
from tests.faults.running import running_mill

#: Leases in seconds: short, so that what a lost supervisor held is soon worked on again.
_LEASE, _SUPERVISORS = 5.0, 2

#: How long each call of the encoder takes, in seconds, and how much longer for each text.
_PAUSE, _PAUSE_PER_TEXT = 0.05, 0.002


@contextmanager
def struck_mill(database: str) -> Iterator[Mill]:
    """Run it until the block ends.

    Args:
        database: `sqlite` or `postgresql`.
    """
    with running_mill(
        database, workers=_SUPERVISORS, lease=_LEASE, pause=_PAUSE, FAULTS_PAUSE_PER_TEXT=str(_PAUSE_PER_TEXT)
    ) as mill:
        yield mill
