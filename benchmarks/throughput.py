"""Tokens a second of everybody on the same texts, in one interleaved run.

Ours is measured from `Client.submit` to the moment the client knows that the job is completed and committed (SQLite,
embedded Redis); the others only embed. A round is ABBA: everybody on one set of texts, then in reverse order on
another, and no text is in two sets. Whoever is not measured is stopped or idle. Every vector is compared with the
reference's; who fails the gate of correctness has no result. A workload that is done is kept in the results, so that a
run can go on where one was broken off (`--resume`).
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import field, results
from benchmarks.contenders import Contender, GateFailed, Vectors
from benchmarks.field import REFERENCE, Field
from benchmarks.gate import Closeness
from benchmarks.machine import QUIET, busy_seconds, commit, cpu_seconds, describe, own_memory, wait_for_quiet
from benchmarks.models import MODELS, model_folder
from benchmarks.peers.peer import PeerMissing
from benchmarks.results import console, spread
from benchmarks.words import Words, read_words
from benchmarks.workloads import WORKLOADS, Sets, Workload

#: Who takes part in every workload; the others only in the first.
_EVERYWHERE = (
    REFERENCE,
    field.BEST_BATCH,
    "OpenVINO bf16",
    "embedmill float32",
    "embedmill auto",
    "embedmill openvino",
    "embedmill int8",
)

#: Workloads in which everybody takes part.
_FIRST = ("W1", "W7")

#: Tokens of a set, about: many where everybody takes part, since that is where most figures come from.
_TOKENS_FIRST, _TOKENS = 24_000, 14_000

#: Share of a set on which the best batch size is looked for.
_TUNED = 0.25

#: Texts of which each is embedded alone too.
_ALONE = 24

#: Rounds measured at most, in times of those asked for, where others disturb some.
_PATIENCE = 1.4

#: Processor time is counted in hundredths of a second: shorter runs do not show what others took, in seconds.
_SHORTEST_SEEN = 0.3

#: Longest wait for a quiet second before a round, in seconds.
_LONGEST_WAIT = 20.0


@dataclass(frozen=True, slots=True)
class Run:
    """One set of texts, measured once.

    Args:
        seconds: How long it took.
        cpu: Processor time that it took, in seconds.
        idle: Processor time meanwhile used by those who waited for their turn, in cores.
        others: Processor time meanwhile used by anything that has no part in this, in cores.
    """

    seconds: float
    cpu: float
    idle: float
    others: float


@dataclass(frozen=True, slots=True)
class Round:
    """ABBA: everybody on one set, then in reverse on another.

    Args:
        tokens: Of both sets together: all but padding.
        runs: Both of each contender.
    """

    tokens: int
    runs: dict[str, tuple[Run, Run]]

    @property
    def others(self) -> float:
        """The greatest share of the processor that others took in one of its runs, in cores."""
        return max(run.others for pair in self.runs.values() for run in pair)

    def seconds(self, name: str) -> float:
        """Return how long a contender took for both sets."""
        return sum(run.seconds for run in self.runs[name])

    def cpu(self, name: str) -> float:
        """Return the processor time a contender took for both sets, in seconds."""
        return sum(run.cpu for run in self.runs[name])


class Measurement:
    """One workload, measured.

    Args:
        workload: What the texts are like.
        everybody: Who may take part.
        contenders: Who does.
        sets: Where texts come from.
    """

    def __init__(self, workload: Workload, everybody: Field, contenders: list[Contender], sets: Sets) -> None:
        self.workload = workload
        self._field = everybody
        self._contenders = {one.name: one for one in contenders}
        self._sets = sets
        self._close = {one.name: Closeness(one.precision) for one in contenders}
        self.failed: dict[str, str] = {}
        self.rounds: list[Round] = []
        self.tuned: dict[str, Any] = {}

    def prepare(self) -> None:
        """Warm everybody on texts that are not measured, and see whether a text's vector depends on its company."""
        texts = self._sets.next(0.5)
        self.tuned = self._field.tune(self._sets.next(_TUNED), list(self._contenders))
        for name, told in self.tuned.items():
            if told["batch_size"] == 32 and name == field.BEST_BATCH:
                self._contenders.pop(name, None)
        sample = texts[:_ALONE]
        singly: Vectors = self._field.reference.ask("encode_singly", sample)[1]
        found = {name: self._run(name, texts)[1] for name in list(self._contenders)}
        self._compare(found)
        for name, one in list(self._contenders.items()):
            vectors = found[name]
            if vectors is not None:
                self._guarded(name, self._close[name].isolate, one, sample, vectors[:_ALONE], singly)

    def round(self) -> Round:
        """Measure everybody on two new sets."""
        first, second = self._sets.next(), self._sets.next()
        there = self._set(first, list(self._contenders))
        back = self._set(second, list(reversed(self._contenders)))
        runs = {name: (there[name], back[name]) for name in self._contenders}
        return Round(self._field.count_tokens(first) + self._field.count_tokens(second), runs)

    def summary(self) -> dict[str, Any]:
        """Return the figures."""
        names = list(self._contenders)
        rates = {name: [one.tokens / one.seconds(name) for one in self.rounds] for name in names}
        found = {}
        for name in names:
            times = [one.seconds(REFERENCE) / one.seconds(name) for one in self.rounds]
            cpu = [one.cpu(name) / one.tokens * 1e6 for one in self.rounds]
            found[name] = {
                "tokens_per_second": spread(rates[name]),
                "times_the_reference": spread(times),
                "cpu_seconds_a_million_tokens": round(statistics.median(cpu), 2),
                "memory_mib": round(own_memory(self._contenders[name].pid) / 2**20),
                **self._close[name].summary(),
            }
        return {
            "title": self.workload.title,
            "texts_a_set": self._sets.count,
            "tokens_a_set": round(statistics.median(one.tokens for one in self.rounds) / 2),
            "others_cores": spread([one.others for one in self.rounds]),
            "idle_cores": spread([run.idle for one in self.rounds for pair in one.runs.values() for run in pair]),
            "best_batch_size": self.tuned,
            "contenders": found,
            "failed": self.failed,
            "seconds": [{name: [run.seconds for run in one.runs[name]] for name in names} for one in self.rounds],
        }

    def _set(self, texts: list[str], order: list[str]) -> dict[str, Run]:
        runs: dict[str, Run] = {}
        found: dict[str, Vectors | None] = {}
        for name in order:
            if name in self._contenders:
                runs[name], found[name] = self._run(name, texts)
        self._compare(found)
        return runs

    def _run(self, name: str, texts: list[str]) -> tuple[Run, Vectors | None]:
        one = self._contenders[name]
        start, busy, used, own = time.perf_counter(), busy_seconds(), self._used(), time.process_time()
        try:
            seconds = one.run(texts)
        except (GateFailed, PeerMissing) as error:
            self._fail(name, error)
            return Run(float("nan"), float("nan"), 0.0, 0.0), None
        own, passed = time.process_time() - own, time.perf_counter() - start
        grown = {pid: now - used[pid] for pid, now in self._used().items()}
        cpu = grown.pop(one.pid) + own * one.has_client_here
        idle = sum(grown.values()) / passed
        others = (busy_seconds() - busy - cpu - own * (not one.has_client_here)) / passed - idle
        return Run(seconds, cpu, idle, max(0.0, others) if passed > _SHORTEST_SEEN else 0.0), one.vectors()

    def _used(self) -> dict[int, float]:
        """Return the processor time that everybody has used so far, by process."""
        return {pid: cpu_seconds(pid) for pid in {one.pid for one in self._field.contenders}}

    def _compare(self, found: dict[str, Vectors | None]) -> None:
        reference = found[REFERENCE]
        assert reference is not None
        for name, vectors in found.items():
            if vectors is not None and name in self._contenders:
                self._guarded(name, self._close[name].add, vectors, reference)

    def _guarded(self, name: str, step: Any, *arguments: Any) -> None:
        try:
            step(*arguments)
        except (GateFailed, PeerMissing) as error:
            self._fail(name, error)

    def _fail(self, name: str, error: Exception) -> None:
        if name == REFERENCE:
            raise error
        console.print(f"{name}: no result: {error}", style="red")
        self.failed[name] = str(error)
        self._contenders.pop(name, None)


def main() -> None:
    """Measure, keep the figures of each workload as soon as they are there, and print the tables."""
    asked = _arguments()
    words = read_words(asked.texts)
    kept = results.Kept(asked.output or f"throughput-{asked.model}")
    with ExitStack() as stack:
        todo = [key for key in asked.workloads if not (asked.resume and kept.is_current(key, commit()))]
        everybody = field.start(stack, model_folder(asked.model), words, asked.only) if todo else None
        for key in todo:
            assert everybody is not None
            kept.put(key, _measure(everybody, WORKLOADS[key], words, asked))
    for key in asked.workloads:
        results.show_throughput(key, kept.sections[key])
    failed = {name: why for key in asked.workloads for name, why in kept.sections[key]["failed"].items()}
    if failed:
        raise SystemExit("Without a result: " + "; ".join(f"{name}: {why}" for name, why in failed.items()))


def _measure(everybody: Field, workload: Workload, words: Words, asked: argparse.Namespace) -> dict[str, Any]:
    begun = time.monotonic()
    is_first = workload.key in _FIRST
    tokens = asked.tokens or (_TOKENS_FIRST if is_first else _TOKENS)
    contenders = [one for one in everybody.contenders if is_first or one.name in _EVERYWHERE]
    sets = Sets(workload, words, tokens, everybody.count_tokens, asked.seed)
    found = Measurement(workload, everybody, contenders, sets)
    found.prepare()
    while sum(one.others <= QUIET for one in found.rounds) < asked.rounds:
        if len(found.rounds) >= round(asked.rounds * _PATIENCE):
            break
        wait_for_quiet(_LONGEST_WAIT)
        found.rounds.append(found.round())
        console.print(f"{workload.key}, round {len(found.rounds)}: {_line(found.rounds[-1])}", style="dim")
    found.rounds = sorted(found.rounds, key=lambda one: one.others)[: asked.rounds]
    return {
        "machine": describe(),
        "model": asked.model,
        "texts": words.origin,
        "seed": asked.seed,
        "took_seconds": round(time.monotonic() - begun),
        "descriptions": {one.name: one.description for one in contenders},
        "left_out": everybody.left_out,
        **found.summary(),
    }


def _line(one: Round) -> str:
    told = [f"{name} {one.tokens / one.seconds(name):,.0f}" for name in one.runs]
    return f"{', '.join(told)} tokens/s; others {one.others:.2f} cores{', noisy' if one.others > QUIET else ''}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="minilm", help="default: minilm")
    parser.add_argument("--texts", type=Path, nargs="+", default=[], help="take words from these: csv, jsonl or text")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="default: all")
    parser.add_argument("--only", nargs="+", help="only those whose names hold one of these, beside the reference")
    parser.add_argument("--rounds", type=int, default=5, help="ABBA rounds of each workload; default 5")
    parser.add_argument("--tokens", type=int, help="tokens of a set, about; default: 24000, later 14000")
    parser.add_argument("--seed", type=int, default=7, help="the same seed makes the same texts; default 7")
    parser.add_argument("--resume", action="store_true", help="leave out what was measured at this commit already")
    parser.add_argument("--output", help="name of the results; default: throughput-MODEL")
    return parser.parse_args()


if __name__ == "__main__":
    main()
