"""How long somebody waits for one vector: on an idle stack, and while a bulk job runs.

Measured from `Client.submit` to the vector in hand, for texts of about 50 tokens that nobody has embedded before;
beside it the engine alone, in a process of its own, on the same texts. While a bulk job runs its tokens a second are
measured too, with the single texts and without.
"""

from __future__ import annotations

import argparse
import random
import time
from contextlib import ExitStack
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.gate import LIMITS, cosine
from benchmarks.lengths import Uniform
from benchmarks.machine import describe
from benchmarks.models import model_folder
from benchmarks.peers.peer import Peer, Recipe
from benchmarks.results import Kept, console, show_machine
from benchmarks.stack import own_stack
from benchmarks.texts import TextSource
from benchmarks.words import read_words
from benchmarks.workloads import WORKLOADS
from embedmill import Client
from producer.job import Job
from worker.supervisor import ALLOCATOR

#: Words of a text: about 50 tokens.
_WORDS = Uniform(36, 40)

#: Bounds of the pause before each text, in seconds: at random, so that nothing that polls is always met at its best.
_PAUSE = (0.05, 0.15)

#: More tokens a second than any bulk job makes here: so much is submitted for each second that it is to run.
_TOKENS_A_SECOND = 40_000

_TIMEOUT = 300.0


class Latency:
    """A stack, an engine alone, and texts for both.

    Args:
        client: Of the running stack.
        engine: The engine's process; stopped while it is not asked.
        seed: Where texts and pauses come from.
    """

    def __init__(self, client: Client, engine: Peer, seed: int) -> None:
        self._client = client
        self._engine = engine
        self._source = TextSource(read_words().spaced, seed=seed)
        self._random = random.Random(seed)

    def idle(self, count: int) -> dict[str, Any]:
        """Measure single texts on the idle stack, and the engine alone between them."""
        engine, urgent, bulk = [], [], []
        for place in range(count + 3):
            text = self._text()
            engine.append(self._engine.ask("encode", [text])[0])
            urgent.append(self._one(text, "urgent"))
            bulk.append(self._one(self._text(), "bulk"))
            if place == 2:  # the first ones find things that are not warm yet
                engine, urgent, bulk = [], [], []
        return {"engine": _told(engine), "urgent": _told(urgent), "bulk": _told(bulk)}

    def busy(self, count: int) -> dict[str, Any]:
        """Measure urgent single texts while a bulk job runs, and the bulk job before, meanwhile and afterwards."""
        stretch = count * sum(_PAUSE) / 2
        job = self._bulk_job(seconds=4 * stretch + 30)
        time.sleep(3)
        alone = [self._rate(job, stretch / 2)]
        start, before = time.perf_counter(), self._tokens(job)
        found = [self._one(self._text(), "urgent") for _ in range(count)]
        beside = (self._tokens(job) - before) / (time.perf_counter() - start)
        alone.append(self._rate(job, stretch / 2))
        if job.status().is_final:
            raise SystemExit("The bulk job ended before the measurement did: no result.")
        job.cancel()
        return {
            "urgent": _told(found),
            "bulk_tokens_per_second": {"alone": [round(rate) for rate in alone], "beside": round(beside)},
        }

    def check(self, precision: str) -> dict[str, float]:
        """Compare vectors of single texts through the stack with the engine's own; fails when they differ."""
        texts = self._source.take(_WORDS, 20)
        ours = np.concatenate([self._submitted(text, "urgent").vectors() for text in texts])
        least = float(cosine(ours, self._engine.ask("encode", texts)[1]).min())
        if not least >= LIMITS[precision].company:
            raise SystemExit(f"Through the stack and through the engine vectors have a cosine of {least}: no result.")
        return {"least_cosine_to_engine": round(least, 7)}

    def _text(self) -> str:
        return self._source.take(_WORDS, 1)[0]

    def _one(self, text: str, priority: str) -> float:
        """Return how many seconds it takes to have a text's vector in hand."""
        time.sleep(self._random.uniform(*_PAUSE))
        start = time.perf_counter()
        vectors = self._submitted(text, priority).vectors()
        seconds = time.perf_counter() - start
        if not np.isfinite(vectors).all():
            raise SystemExit("A vector is not finite: no result.")
        return seconds

    def _submitted(self, text: str, priority: str) -> Job:
        job = self._client.submit([text], priority=priority)
        job.wait(_TIMEOUT)
        return job

    def _bulk_job(self, seconds: float) -> Job:
        lengths = WORKLOADS["W1"].lengths
        stems = self._source.take(lengths, 2_000)
        tokens_a_text = 120
        count = int(seconds * _TOKENS_A_SECOND / tokens_a_text)
        return self._client.submit(f"{number} {stems[number % len(stems)]}" for number in range(count))

    def _rate(self, job: Job, seconds: float) -> float:
        start, before = time.perf_counter(), self._tokens(job)
        time.sleep(seconds)
        return (self._tokens(job) - before) / (time.perf_counter() - start)

    def _tokens(self, job: Job) -> int:
        return int(job.status().tokens)


def main() -> None:
    """Measure, keep the figures and print the table."""
    asked = _arguments()
    kept = Kept(asked.output)
    folder = model_folder("minilm")
    for name in asked.stacks:
        options = ["--dtype", "int8", "--backend", "openvino"] if name == "int8" else ["--dtype", name]
        with ExitStack() as stack:
            running = stack.enter_context(own_stack(options))
            client = stack.enter_context(Client(data_dir=running.data_dir))
            recipe = Recipe("engine", "mill", {"dtype": name}, environment={"GLIBC_TUNABLES": ALLOCATOR})
            engine = stack.enter_context(Peer(recipe, folder))
            latency = Latency(client, engine, asked.seed)
            precision = str(engine.description["precision"])
            kept.put(
                name,
                {
                    "machine": describe(),
                    "seed": asked.seed,
                    "gate": latency.check(precision),
                    "idle": latency.idle(asked.idle),
                    "busy": latency.busy(asked.busy),
                },
            )
        _show(name, kept.sections[name])


def _told(seconds: list[float]) -> dict[str, Any]:
    """Return what is kept of some times, in milliseconds."""
    found = np.sort(np.array(seconds) * 1000)
    marks = {"median": 50, "p90": 90, "p99": 99}
    told = {name: round(float(np.percentile(found, mark)), 2) for name, mark in marks.items()}
    return {**told, "most": round(float(found[-1]), 2), "milliseconds": [round(float(one), 2) for one in found]}


def _show(name: str, section: dict[str, Any]) -> None:
    show_machine(section["machine"])
    table = Table(title=f"One text, submit to vector in hand, milliseconds; dtype {name}", title_justify="left")
    for column in ("what", "median", "p90", "p99", "most", "texts"):
        table.add_column(column)
    idle, busy = section["idle"], section["busy"]
    rows = {
        "the engine alone": idle["engine"],
        "idle stack, urgent": idle["urgent"],
        "idle stack, bulk": idle["bulk"],
        "beside a bulk job, urgent": busy["urgent"],
    }
    for title, row in rows.items():
        marks = [f"{row[mark]:.1f}" for mark in ("median", "p90", "p99", "most")]
        table.add_row(title, *marks, str(len(row["milliseconds"])))
    console.print(table)
    bulk = busy["bulk_tokens_per_second"]
    console.print(f"The bulk job: {' and '.join(f'{rate:,}' for rate in bulk['alone'])} tokens/s alone, ", end="")
    console.print(f"{bulk['beside']:,} beside the single texts.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stacks", nargs="+", default=["auto"], help="dtypes of the stacks; default: auto")
    parser.add_argument("--idle", type=int, default=100, help="texts on the idle stack; default 100")
    parser.add_argument("--busy", type=int, default=400, help="texts beside a bulk job; default 400")
    parser.add_argument("--seed", type=int, default=7, help="default 7")
    parser.add_argument("--output", default="latency", help="name of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
