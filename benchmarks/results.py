"""Results: kept as JSON under `benchmarks/results/`, part by part, and shown as tables."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).resolve().parent / "results"

console = Console(highlight=False, width=140)


class Kept:
    """One file of results, made of sections that are measured one after the other.

    Args:
        name: The file's name without its ending.
    """

    def __init__(self, name: str) -> None:
        self._path = FOLDER / f"{name}.json"
        self.sections: dict[str, Any] = {}
        if self._path.exists():
            self.sections = json.loads(self._path.read_text(encoding="utf-8"))

    def is_current(self, key: str, commit: str) -> bool:
        """Whether a section was measured at a commit."""
        return key in self.sections and self.sections[key]["machine"]["commit"] == commit

    def put(self, key: str, section: dict[str, Any]) -> None:
        """Keep a section, in the place of an earlier one; an interruption leaves the file whole."""
        self.sections[key] = section
        FOLDER.mkdir(exist_ok=True)
        beside = self._path.with_suffix(".part")
        ordered = {name: self.sections[name] for name in sorted(self.sections)}
        beside.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
        os.replace(beside, self._path)


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Return the median, the least and the most of some values, rounded."""
    named = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {name: round(value, digits) for name, value in named.items()}


def told(values: dict[str, float], form: str) -> str:
    """Return a spread as a person reads it."""
    return f"{values['median']:{form}} ({values['least']:{form}} to {values['most']:{form}})"


def show_machine(machine: dict[str, Any]) -> None:
    """Print what was measured on and with."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    console.print(f"\n{machine['processor']}, {machine['cores']} cores; Python {machine['python']}; {versions}")


def show_throughput(key: str, section: dict[str, Any]) -> None:
    """Print one workload's figures."""
    show_machine(section["machine"])
    title = f"{key}, {section['title']}: {section['texts_a_set']:,} texts, {section['tokens_a_set']:,} tokens a set"
    table = Table(title=title, title_justify="left")
    for column in ("who", "tokens/s", "times the reference", "CPU s / million", "cosine, least", "alone/company"):
        table.add_column(column)
    for name, found in section["contenders"].items():
        closeness = [f"{found['cosine']['least']:.6f}"] if found["cosine"] else ["-"]
        closeness += [f"{found['alone_and_in_company']:.6f}"] if found["alone_and_in_company"] else ["-"]
        rates = [told(found["tokens_per_second"], ",.0f"), told(found["times_the_reference"], ".2f")]
        table.add_row(name, *rates, f"{found['cpu_seconds_a_million_tokens']:.1f}", *closeness)
    console.print(table)
    for name, why in (section["left_out"] | section["failed"]).items():
        console.print(f"left out: {name}: {why}", style="yellow", markup=False)
