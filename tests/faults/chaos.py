"""`python -m tests.faults.chaos`: the long form of the fault suite, part by part, and its table in the docs.

Each part can be run alone; results of all runs lie in `tests/faults/results` and are read from there. The nemesis goes
on where the results of its seed end. Ends with 1 if any part was not well.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests.faults.outcomes import FOLDER, read
from tests.faults.table import write_page

_ROOT = Path(__file__).parents[2]

_DATABASES = ("sqlite", "postgresql")

#: What is shown elsewhere: the protocol against its models, the engine's own defences, batches cut off at every step.
_BESIDE = (
    "tests/storage/test_protocol.py",
    "tests/storage/test_states.py",
    "tests/engine/test_failures.py",
    "tests/engine/test_bad_vectors.py",
    "tests/engine/test_progress.py",
    "tests/producer/test_batchwork.py",
)

PARTS = ("scenarios", "nemesis", "soak", "ten_million", "planted", "table")


def scenarios() -> bool:
    """Run every test of the matrix in its long form; what it measured replaces what was measured before."""
    FOLDER.mkdir(exist_ok=True)
    files = {"FAULTS_VERDICTS": FOLDER / "scenarios.jsonl", "FAULTS_RESULTS": FOLDER / "figures.jsonl"}
    for path in files.values():
        path.unlink(missing_ok=True)
    variables = {"FAULTS": "full", **{name: str(path) for name, path in files.items()}}
    # Most of them wait most of the time.
    side_by_side = ["-n", "2", "--dist", "loadfile"]
    return _run(["pytest", "-p", "tests.faults.verdicts", *side_by_side, "tests/faults", *_BESIDE], **variables)


def nemesis(seed: int, faults: int) -> bool:
    """Strike both databases until so many faults of a seed have struck each, from where its results end."""
    well = True
    for database in _DATABASES:
        runs = [run for run in read("nemesis") if (run["database"], run["seed"]) == (database, seed)]
        first = max((run["first"] + run["faults"] for run in runs), default=0)
        if first >= faults:
            print(f"{database}: {first} faults of seed {seed} have struck already", flush=True)
            continue
        given = ["--database", database, "--seed", str(seed), "--faults", str(faults - first), "--first", str(first)]
        well = _run(["tests.faults.nemesis", *given]) and well
    return well


def soak(minutes: float) -> bool:
    """Soak on SQLite, which more of the processes share."""
    return _run(["tests.faults.soak", "--minutes", str(minutes)])


def ten_million(texts: int) -> bool:
    """Measure the large job on both databases."""
    done = [_run(["tests.faults.ten_million", "--database", name, "--texts", str(texts)]) for name in _DATABASES]
    return all(done)


def planted() -> bool:
    """Show that the suite can see."""
    return _run(["tests.faults.planted"])


def _run(words: list[str], **variables: str) -> bool:
    print(f"--- {' '.join(words)}", flush=True)
    # As in CI: a test that is skipped for want of a program has shown nothing.
    environment = {**os.environ, "CI": "true", **variables}
    return subprocess.run([sys.executable, "-m", *words], cwd=_ROOT, env=environment).returncode == 0


def main() -> None:
    """Run the parts that are asked for, one after another, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, help="default: all")
    parser.add_argument("--faults", type=int, default=500, help="of the nemesis, on each database")
    parser.add_argument("--seed", type=int, default=1, help="of the nemesis")
    parser.add_argument("--minutes", type=float, default=30, help="of the soak")
    parser.add_argument("--texts", type=int, default=10_000_000, help="in the large job")
    given = parser.parse_args()
    runs = {
        "scenarios": scenarios,
        "nemesis": lambda: nemesis(given.seed, given.faults),
        "soak": lambda: soak(given.minutes),
        "ten_million": lambda: ten_million(given.texts),
        "planted": planted,
    }
    failed = []
    for part in PARTS if given.part is None else (given.part,):
        if part in runs and not runs[part]():
            failed.append(part)
        write_page()
    if failed:
        raise SystemExit(f"not well: {', '.join(failed)}")


if __name__ == "__main__":
    main()
