"""How a long run ends and what it leaves: everything judged once, one line of JSON in `tests/faults/results`."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.faults.mill import Mill
from tests.faults.oracle import Report
from tests.faults.stamps import stamp

FOLDER = Path(__file__).parent / "results"


def settle(mill: Mill, patience: float = 120.0) -> Report:
    """Heal everything, wait until all jobs have ended, and have it judged, once; what has not ended then is stuck.

    A machine that others keep busy takes its time: it is waited for as long as results are written.

    Args:
        mill: What is to come to rest.
        patience: Seconds in which at least one result must be written.
    """
    mill.heal()
    before = -1
    while mill.open_jobs() and mill.commits() > before:
        before = mill.commits()
        with suppress(AssertionError):
            mill.wait_complete(patience)
    report = mill.judge()
    # The end of `running_mill` would judge all of it again.
    mill.finish = report.assert_clean  # type: ignore[method-assign]
    return report


def findings(report: Report) -> dict[str, int]:
    """Return how much was judged, and how much was found wrong."""
    kinds = ("lost", "twice", "differing", "stuck", "leaked")
    return {"jobs": report.jobs, "texts": report.items} | {kind: len(getattr(report, kind)) for kind in kinds}


def write(name: str, facts: dict[str, Any]) -> None:
    """Add a run to `results/NAME.jsonl`."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.jsonl").open("a") as results:
        results.write(json.dumps(stamp() | facts) + "\n")


def read(name: str) -> list[dict[str, Any]]:
    """Return all runs of `results/NAME.jsonl`, oldest first."""
    path = FOLDER / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds, to a tenth."""
        return round(time.monotonic() - self._start, 1)
