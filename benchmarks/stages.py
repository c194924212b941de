"""What each stage of the way from texts to vectors costs: `embedmill bench` for every stack, on mixed paragraphs.

Each stack is measured in turn, some rounds; kept is the whole report of the round with the median rate, and the spread.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.field import STACKS
from benchmarks.machine import describe, wait_for_quiet
from benchmarks.models import MODELS, model_folder
from benchmarks.results import Kept, console, show_machine, spread
from benchmarks.texts import TextSource
from benchmarks.words import read_words
from benchmarks.workloads import WORKLOADS

_TEXTS = 20_000

_LONGEST_WAIT = 20.0


def main() -> None:
    """Measure every stack, keep the reports and print them."""
    asked = _arguments()
    words = read_words(asked.texts)
    kept = Kept(asked.output)
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in asked.stacks}
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="embedmill-bench-") as folder:
        texts = Path(folder) / "texts.txt"
        source = TextSource(words.spaced, seed=asked.seed)
        texts.write_text("\n".join(source.take(WORKLOADS["W1"].lengths, _TEXTS)), encoding="utf-8")
        for _ in range(asked.rounds):
            for name in [name for name in asked.stacks if name not in left_out]:
                wait_for_quiet(_LONGEST_WAIT)
                report = _measure([*STACKS[name], "--model", str(model_folder(asked.model))], texts, asked.seconds)
                if isinstance(report, str):
                    left_out[name] = report
                else:
                    reports[name].append(report)
    for name, found in reports.items():
        if found:
            kept.put(f"{asked.model}, {name}", _section(found, asked))
            _show(name, kept.sections[f"{asked.model}, {name}"])
    for name, why in left_out.items():
        console.print(f"left out: {name}: {why}", style="yellow", markup=False)


def _measure(options: list[str], texts: Path, seconds: float) -> dict[str, Any] | str:
    """Return a report, or why there is none."""
    command = [sys.executable, "-m", "embedmill", "bench", "--json", "--devices", "cpu", *options]
    command += ["--texts", str(texts), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=texts.parent)
    if done.returncode != 0:
        lines = [line.strip(" │╰╭─╯") for line in done.stderr.splitlines()]
        return next((line for line in reversed(lines) if line), "it ended without a word")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _section(found: list[dict[str, Any]], asked: argparse.Namespace) -> dict[str, Any]:
    rates = [one["tokens_per_second"] for one in found]
    middle = sorted(found, key=lambda one: float(one["tokens_per_second"]))[len(found) // 2]
    report = {name: value for name, value in middle.items() if name not in ("model", "revision")}
    return {
        "machine": describe(),
        "seed": asked.seed,
        "tokens_per_second": spread(rates, 1),
        "floor_share": spread([one["floor_share"] for one in found]),
        "report": report,
    }


def _show(name: str, section: dict[str, Any]) -> None:
    show_machine(section["machine"])
    report = section["report"]
    table = Table(title=f"{name}: {report['setup']}", title_justify="left")
    for column in ("stage", "µs of a core a token", "share"):
        table.add_column(column)
    total = sum(stage["seconds"] for stage in report["stages"])
    for stage in report["stages"]:
        cost = stage["seconds"] / stage["tokens"] * 1e6
        table.add_row(stage["name"], f"{cost:.2f}", f"{stage['seconds'] / total:.1%}")
    console.print(table)
    console.print(f"{report['tokens_per_second']:,.0f} tokens/s, {section['floor_share']['median']:.0%} of the floor")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="minilm", help="default: minilm")
    parser.add_argument("--stacks", nargs="+", choices=STACKS, default=list(STACKS), help="default: all")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--seconds", type=float, default=12.0, help="of one measurement; default 12")
    parser.add_argument("--texts", type=Path, nargs="+", default=[], help="take words from these: csv, jsonl or text")
    parser.add_argument("--seed", type=int, default=7, help="default 7")
    parser.add_argument("--output", default="stages", help="name of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
