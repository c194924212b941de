"""Throughput of the whole path against sentence-transformers on the same texts, in one interleaved run.

Ours is measured from `Client.submit` to the moment the client knows that the job is completed and committed (SQLite,
embedded Redis, float32); theirs is `SentenceTransformer.encode(texts)` alone, with its defaults. Each round is ABBA on
two sets of texts that no other round has; whoever is not measured is stopped or idle. Every vector is compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from machine import busy_seconds, cpu_seconds, describe
from numpy.typing import NDArray
from reference import Reference
from rich.console import Console
from rich.table import Table
from stack import Stack, own_stack
from texts import LENGTHS, Lengths, TextSource, example_sentences, read_pairs

from embedmill import Client

_RESULT = Path(__file__).resolve().parent / "results" / "throughput.json"

#: Most by which a component of a vector may differ from the reference's, all vectors having length 1.
_TOLERANCE = 1e-5

#: What is aimed at, in times of the reference's tokens a second.
_GOAL = 1.5

#: Tokens of an English word, roughly; only decides how many texts make a set.
_TOKENS_PER_WORD = 1.25

#: A round is measured again when anybody else took more of the processor meanwhile, in cores.
_QUIET = 0.15

#: Rounds measured at most, in times of those asked for; of too few quiet ones the quietest are taken.
_PATIENCE = 2

#: Longest wait for a quiet second before a round, in seconds.
_LONGEST_WAIT = 60

console = Console(highlight=False, width=120)


@dataclass(frozen=True, slots=True)
class Run:
    """One set of texts, measured once.

    Args:
        seconds: How long it took.
        tokens: What the encoder read: all but padding.
        others: Processor time meanwhile used by anything that was not measured, in cores.
    """

    seconds: float
    tokens: int
    others: float

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Round:
    """ABBA: ours and theirs on one set, then theirs and ours on another."""

    ours: tuple[Run, Run]
    theirs: tuple[Run, Run]
    difference: float

    @property
    def others(self) -> float:
        """The greatest share of the processor that others took in one of its runs, in cores."""
        return max(run.others for run in (*self.ours, *self.theirs))

    @property
    def speedup(self) -> float:
        """How many times faster ours was, over both sets."""
        return sum(run.seconds for run in self.theirs) / sum(run.seconds for run in self.ours)


class Bench:
    """Both sides, ready to be measured."""

    def __init__(self, stack: Stack, client: Client, reference: Reference) -> None:
        self._stack, self._client, self._reference = stack, client, reference

    def round(self, first: list[str], second: list[str]) -> Round:
        """Measure both sides on two sets of texts."""
        ours_first, our_vectors = self._ours(first)
        theirs_first, their_vectors = self._theirs(first, ours_first.tokens)
        difference = self._compare(our_vectors, their_vectors)
        expected = self._reference.tokens(second)
        theirs_second, their_vectors = self._theirs(second, expected)
        ours_second, our_vectors = self._ours(second)
        difference = max(difference, self._compare(our_vectors, their_vectors))
        return Round((ours_first, ours_second), (theirs_first, theirs_second), difference)

    def _ours(self, texts: list[str]) -> tuple[Run, NDArray[np.float32]]:
        tokens = self._reference.tokens(texts)
        busy, own = busy_seconds(), self._own_seconds()
        start = time.perf_counter()
        job = self._client.submit(texts)
        status = job.wait(timeout=600)
        seconds = time.perf_counter() - start
        others = (busy_seconds() - busy - self._own_seconds() + own) / seconds
        if status.succeeded != len(texts) or status.tokens != tokens:
            raise SystemExit(
                f"{status.succeeded} of {len(texts)} vectors, {status.tokens} of {tokens} tokens: no result."
            )
        return Run(seconds, tokens, max(0.0, others)), job.vectors()

    def _theirs(self, texts: list[str], tokens: int) -> tuple[Run, NDArray[np.float32]]:
        busy, own = busy_seconds(), cpu_seconds(self._reference.pid)
        seconds, vectors = self._reference.encode(texts)
        others = (busy_seconds() - busy - cpu_seconds(self._reference.pid) + own) / seconds
        return Run(seconds, tokens, max(0.0, others)), vectors

    def _own_seconds(self) -> float:
        return cpu_seconds(self._stack.pid) + time.process_time()

    @staticmethod
    def _compare(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
        """Return the greatest difference of any component, row by row, so that order counts."""
        difference = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else np.inf
        if not difference <= _TOLERANCE:  # NaN too
            raise SystemExit(f"The vectors differ by {difference}, more than {_TOLERANCE}: no result.")
        return difference


def main() -> None:
    """Measure, print the table and write the figures."""
    asked = _arguments()
    sentences = example_sentences()
    if asked.csv is not None:
        sentences = [text for pair in read_pairs(asked.csv) for text in (pair.left, pair.right)]
    source = TextSource(sentences)
    found: dict[str, list[Round]] = {}
    with own_stack() as stack, Client(data_dir=stack.data_dir) as client, Reference() as reference:
        bench = Bench(stack, client, reference)
        torch = reference.description
        for name in asked.lengths:
            found[name] = _measure(bench, source, name, LENGTHS[name], asked)
    figures = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "torch": torch,
        "texts": "a csv file's sentences" if asked.csv else "examples/sentences.jsonl",
        "tolerance": _TOLERANCE,
        "lengths": {name: _summary(rounds) for name, rounds in found.items()},
    }
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _show(figures)


def _measure(bench: Bench, source: TextSource, name: str, lengths: Lengths, asked: argparse.Namespace) -> list[Round]:
    count = max(1, round(asked.tokens / (2 + lengths.mean * _TOKENS_PER_WORD)))
    bench.round(source.take(lengths, count // 4 + 1), source.take(lengths, count // 4 + 1))  # warms both sides
    rounds: list[Round] = []
    while sum(one.others <= _QUIET for one in rounds) < asked.rounds and len(rounds) < asked.rounds * _PATIENCE:
        _wait_for_quiet()
        rounds.append(bench.round(source.take(lengths, count), source.take(lengths, count)))
        console.print(f"{name}, round {len(rounds)}: {_line(rounds[-1])}", style="dim")
    return sorted(rounds, key=lambda one: one.others)[: asked.rounds]


def _wait_for_quiet() -> None:
    for _ in range(_LONGEST_WAIT):
        busy = busy_seconds()
        time.sleep(1)
        if busy_seconds() - busy <= _QUIET:
            return


def _line(one: Round) -> str:
    ours, theirs = ([f"{run.rate:,.0f}" for run in runs] for runs in (one.ours, one.theirs))
    others = f"others {one.others:.2f} cores{', noisy' if one.others > _QUIET else ''}"
    return f"ours {', '.join(ours)}; theirs {', '.join(theirs)} tokens/s; x{one.speedup:.2f}; {others}"


def _summary(rounds: list[Round]) -> dict[str, Any]:
    sides = {side: [run for one in rounds for run in getattr(one, side)] for side in ("ours", "theirs")}
    speedups = [one.speedup for one in rounds]
    return {
        **{side: {"tokens_per_second": _spread([run.rate for run in runs])} for side, runs in sides.items()},
        "speedup": _spread(speedups),
        "largest_difference": max(one.difference for one in rounds),
        "others_cores": _spread([one.others for one in rounds]),
        "tokens_a_run": statistics.median(run.tokens for run in sides["ours"]),
        "rounds": [asdict(one) for one in rounds],
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "least": round(min(values), 3),
        "most": round(max(values), 3),
    }


def _show(figures: dict[str, Any]) -> None:
    machine, torch = figures["machine"], figures["torch"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    console.print(f"\n{machine['processor']}, {machine['cores']} cores; Python {machine['python']}; {versions}")
    console.print(f"torch on {torch['device']}, its default of {torch['threads']} threads on both sides, float32")
    table = Table(title="Tokens a second, whole path (median, least to most)", title_justify="left")
    for column in ("texts", "ours", "sentence-transformers", "ours / theirs", "difference", "others, cores"):
        table.add_column(column)
    for name, summary in figures["lengths"].items():
        rates = [_told(summary[side]["tokens_per_second"], ",.0f") for side in ("ours", "theirs")]
        others = f"at most {summary['others_cores']['most']:.2f}"
        difference = f"{summary['largest_difference']:.1e}"
        table.add_row(name, *rates, _told(summary["speedup"], ".2f"), difference, others)
    console.print(table)
    reached = [name for name, summary in figures["lengths"].items() if summary["speedup"]["median"] >= _GOAL]
    console.print(f"At least {_GOAL} times the reference: {', '.join(reached) or 'nowhere'}.")


def _told(spread: dict[str, float], form: str) -> str:
    return f"{spread['median']:{form}} ({spread['least']:{form}} to {spread['most']:{form}})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, help="take the words from this file of two texts and a score a row")
    parser.add_argument("--lengths", nargs="+", choices=LENGTHS, default=list(LENGTHS), help="default: all")
    parser.add_argument("--rounds", type=int, default=5, help="ABBA rounds for each of the lengths; default 5")
    parser.add_argument("--tokens", type=int, default=20_000, help="tokens of a run, about; default 20000")
    parser.add_argument("--output", type=Path, default=_RESULT, help="where the figures are written")
    return parser.parse_args()


if __name__ == "__main__":
    main()
