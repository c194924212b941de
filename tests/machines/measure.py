"""`make machines`: every test of many machines in its long form, and the store's tests through PgBouncer.

What was measured replaces what was measured before, in `results/figures.jsonl` and in `docs/many-machines.md`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.stamps import commit

_ROOT = Path(__file__).parents[2]

FIGURES = Path(__file__).parent / "results" / "figures.jsonl"

PAGE = _ROOT / "docs" / "many-machines.md"

_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"

#: What happens to which host.
ROWS = {
    "M1": "nothing: three workers' hosts, producers beside storage and over HTTP",
    "M2": "a worker's host is cut off, and comes back",
    "M3": "a worker's host forty times slower, behind a line of 256 kbit/s that loses a packet in fifty",
    "M4": "a worker's host loses its power, and is started again",
    "M5": "Redis' host is cut off for 12 s",
    "M6": "PostgreSQL's host is cut off, or loses its power",
    "M7": "a producer's host is cut off for 12 s while it submits over HTTP",
    "M8": "the service's host loses its power while a client waits, and is started again",
}


def table() -> str:
    """Return what was measured, row by row; empty where nothing was."""
    lines = [json.loads(line) for line in FIGURES.read_text().splitlines()] if FIGURES.exists() else []
    if not lines:
        return ""
    told: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        told[line["scenario"]][line["figure"]].append(line["value"])
    rows = [
        f"| {what} | {'; '.join(f'{figure}: {_shown(values)}' for figure, values in told[name].items())} |"
        for name, what in ROWS.items()
        if told[name]
    ]
    return "\n".join(["| what happens | measured |", "| --- | --- |", *rows])


def write_page() -> None:
    """Put what was measured into the page."""
    if not (measured := table()):
        return
    before, begun, rest = PAGE.read_text().partition(_BEGIN)
    _, ended, after = rest.partition(_END)
    if not (begun and ended):
        raise SystemExit(f"{PAGE.name} has lost its marks: {_BEGIN} and {_END}")
    made = f"Measured {datetime.now(UTC):%d %B %Y} at commit {commit()}, leases of 6 s, all hosts on one machine."
    PAGE.write_text(f"{before}{_BEGIN}\n\n{made}\n\n{measured}\n\n{_END}{after}")


def _shown(values: list[float]) -> str:
    return " and ".join(f"{value:.1f}" for value in values)


def _run(words: list[str], **variables: str) -> bool:
    print(f"--- {' '.join(words)}", flush=True)
    # As in CI: a test that is skipped for want of a program has shown nothing.
    environment = {**os.environ, "CI": "true", **variables}
    return subprocess.run([sys.executable, "-m", *words], cwd=_ROOT, env=environment).returncode == 0


def main() -> None:
    """Run all of it; fail if any was not well."""
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.unlink(missing_ok=True)
    well = _run(["pytest", "tests/machines"], FAULTS="full", FAULTS_RESULTS=str(FIGURES))
    pooled = _run(["pytest", "tests/storage", "-k", "postgresql"], POOLED="1")
    write_page()
    if not (well and pooled):
        raise SystemExit("not well")


if __name__ == "__main__":
    main()
