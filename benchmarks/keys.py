"""Many small jobs of many owners at once, against one job with as many texts.

Owners submit one-text jobs of about 50 tokens as fast as they can, several at the same time, from one process. The cost
is the time from the first submission to the last commit; beside it the processor time. One job with as many other texts
is measured before and after.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table
from sqlalchemy import func, select

from benchmarks.gate import LIMITS, cosine
from benchmarks.lengths import Uniform
from benchmarks.machine import cpu_seconds, describe
from benchmarks.results import Kept, console, show_machine
from benchmarks.stack import Stack, own_stack
from benchmarks.texts import TextSource
from benchmarks.words import read_words
from embedmill import Client
from producer.records import Record
from storage.stores import Stores
from storage.tables import JOB_IS_OPEN, JobRow

#: Words of a text: about 50 tokens.
_WORDS = Uniform(36, 40)

#: How often open jobs are counted, in seconds.
_LOOK = 0.25

_TIMEOUT = 3600.0

#: Texts of the small jobs that are embedded once more, in one job.
_CHECKED = 20


@dataclass(frozen=True, slots=True)
class Cost:
    """What some texts cost.

    Args:
        seconds: From the first submission to the last commit.
        submit_seconds: From the first submission to the last accepted one.
        cpu_seconds: Processor time of the stack and the submitting process.
    """

    seconds: float
    submit_seconds: float
    cpu_seconds: float


class Owners:
    """A stack and those who submit to it.

    Args:
        stack: The running stack.
        client: Of the stack.
        keys: How many owners there are.
        threads: How many of them submit at the same moment.
    """

    def __init__(self, stack: Stack, client: Client, keys: int, threads: int) -> None:
        self._stack = stack
        self._client = client
        self._keys = keys
        self._threads = threads
        self._stores = Stores.open(client.settings)
        self._jobs: list[str] = []

    def together(self, texts: list[str]) -> Cost:
        """Measure one job with all the texts."""
        cpu, start = self._cpu(), time.perf_counter()
        job = self._client.submit(texts)
        submitted = time.perf_counter() - start
        status = job.wait(_TIMEOUT)
        seconds = time.perf_counter() - start
        if status.succeeded != len(texts):
            raise SystemExit(f"{status.succeeded} of {len(texts)} texts have a vector: no result.")
        return Cost(seconds, submitted, self._cpu() - cpu)

    def apart(self, texts: list[str]) -> Cost:
        """Measure one job for each text, one owner's jobs after the other's."""
        guard, jobs = threading.Lock(), [""] * len(texts)

        def submit(owner: int) -> None:
            for place in range(owner, len(texts), self._keys):
                job = self._client.submit_records([Record(texts[place])], with_ids=False, key_id=f"owner{owner:04d}")
                with guard:
                    jobs[place] = job.id

        cpu, start = self._cpu(), time.perf_counter()
        with ThreadPoolExecutor(self._threads) as threads:
            for ended in [threads.submit(submit, owner) for owner in range(self._keys)]:
                ended.result()
        submitted = time.perf_counter() - start
        while self._open_jobs():
            time.sleep(_LOOK)
        seconds = time.perf_counter() - start
        self._jobs = jobs
        return Cost(seconds, submitted, self._cpu() - cpu)

    def check(self, texts: list[str]) -> dict[str, Any]:
        """Compare vectors of the last small jobs with those of one job; fails when they differ or one is missing."""
        card = self._stores.workers.cards()[0].card
        places = np.linspace(0, len(texts) - 1, _CHECKED).astype(int).tolist()
        apart = np.concatenate([self._client.job(self._jobs[place]).vectors() for place in places])
        job = self._client.submit([texts[place] for place in places])
        job.wait(_TIMEOUT)
        least = float(cosine(apart, job.vectors()).min())
        if not least >= LIMITS[card.precision].company:
            raise SystemExit(f"In jobs of their own and together texts have a cosine of {least}: no result.")
        return {"precision": card.precision, "least_cosine_apart_and_together": round(least, 7)}

    def _open_jobs(self) -> int:
        with self._stores.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(JobRow).where(JOB_IS_OPEN)).scalar_one())

    def _cpu(self) -> float:
        return cpu_seconds(self._stack.pid) + time.process_time()


def main() -> None:
    """Measure, keep the figures and print the table."""
    asked = _arguments()
    kept = Kept(asked.output)
    source = TextSource(read_words().spaced, seed=asked.seed)
    count = asked.keys * asked.jobs
    together: list[Cost] = []
    apart: list[Cost] = []
    with ExitStack() as stack:
        running = stack.enter_context(own_stack(["--dtype", asked.dtype]))
        client = stack.enter_context(Client(data_dir=running.data_dir))
        owners = Owners(running, client, asked.keys, asked.threads)
        owners.together(source.take(_WORDS, 200))
        owners.apart(source.take(_WORDS, asked.keys))
        for _ in range(asked.rounds):
            together.append(owners.together(source.take(_WORDS, count)))
            texts = source.take(_WORDS, count)
            apart.append(owners.apart(texts))
            gate = owners.check(texts)
            together.append(owners.together(source.take(_WORDS, count)))
            console.print(f"apart {apart[-1].seconds:.1f} s, together {together[-1].seconds:.1f} s", style="dim")
    times = statistics.median(one.seconds for one in apart) / statistics.median(one.seconds for one in together)
    figures = {
        "machine": describe(),
        "seed": asked.seed,
        "keys": asked.keys,
        "jobs_a_key": asked.jobs,
        "threads_that_submit": asked.threads,
        "gate": gate,
        "times": round(times, 2),
        "together": [asdict(one) for one in together],
        "apart": [asdict(one) for one in apart],
    }
    kept.put(asked.dtype, figures)
    _show(figures)


def _show(figures: dict[str, Any]) -> None:
    show_machine(figures["machine"])
    count = figures["keys"] * figures["jobs_a_key"]
    table = Table(title=f"{count:,} texts of about 50 tokens", title_justify="left")
    for column in ("how", "seconds", "of these submitting", "CPU s"):
        table.add_column(column)
    titles = {"together": "one job", "apart": f"{figures['keys']} owners, {figures['jobs_a_key']:,} one-text jobs each"}
    for way, title in titles.items():
        for one in figures[way]:
            table.add_row(title, f"{one['seconds']:.1f}", f"{one['submit_seconds']:.1f}", f"{one['cpu_seconds']:.1f}")
    console.print(table)
    console.print(f"Small jobs cost {figures['times']:.2f} times one job.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100, help="owners; default 100")
    parser.add_argument("--jobs", type=int, default=50, help="one-text jobs of each; default 50, in full 1000")
    parser.add_argument("--threads", type=int, default=4, help="owners that submit at the same moment; default 4")
    parser.add_argument("--rounds", type=int, default=2, help="rounds: together, apart, together; default 2")
    parser.add_argument("--dtype", default="auto", help="of the stack; default auto")
    parser.add_argument("--seed", type=int, default=7, help="default 7")
    parser.add_argument("--output", default="keys", help="name of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
