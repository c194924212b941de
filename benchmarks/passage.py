"""Where the time of one text goes, from `Client.submit` to the vector in hand, stage by stage, on an idle stack.

The stack is the real one, but for a worker that notes when a text passes each failpoint (`benchmarks/noting.py`), which
costs some microseconds. Processor time used by others meanwhile is shown, since it most often spoils the figures.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.lengths import Uniform
from benchmarks.machine import busy_seconds, cpu_seconds, describe
from benchmarks.noting import VARIABLE, note_to
from benchmarks.results import Kept, console, show_machine
from benchmarks.texts import TextSource
from benchmarks.words import read_words
from embedmill import Client
from embedmill.redisserver import RedisServer
from worker.devices import choose_slots, find_gpus
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor

#: Words of a text: about 50 tokens.
_WORDS = Uniform(36, 40)

#: Seconds between two texts: what one leaves to do is done when the next one comes.
_PAUSE = 0.1

_READY_TIMEOUT = 300.0

#: What ends each stage, in the order in which a text passes them, and what the stage is.
STAGES = {
    "submit.sealing": "submit: look up the model, write the job",
    "submit.sealed": "submit: COMMIT, until it is on the disk",
    "dispatch.marked": "submit: choose what is sent, mark it",
    "message.taken": "Celery and Redis: send, wake a task",
    "claim.committed": "worker: claim",
    "embed.begin": "worker: read the texts",
    "embed.end": "engine: tokenize, encode, pool",
    "commit.written": "worker: write the vectors",
    "commit.committed": "worker: COMMIT, until it is on the disk",
    "waited": "hint, and a look at the job",
    "in hand": "read the vectors",
}


@contextmanager
def noted_stack(dtype: str, notes: Path) -> Iterator[Client]:
    """Run a stack whose processes, this one too, append to a file what they pass.

    Args:
        dtype: What the worker computes in.
        notes: The file.

    Raises:
        RuntimeError: When it does not become ready.
    """
    root = str(Path(__file__).resolve().parents[1])
    os.environ |= {VARIABLE: str(notes), "PYTHONPATH": root}
    with tempfile.TemporaryDirectory(prefix="embedmill-bench-") as folder:
        settings = WorkerSettings.load(data_dir=Path(folder) / "data", dtype=dtype)
        server = RedisServer(settings)
        server.start()
        supervisor = Supervisor(settings, choose_slots(settings.devices, find_gpus()), program="benchmarks.noting")
        running = threading.Thread(target=supervisor.run)
        running.start()
        try:
            deadline = time.monotonic() + _READY_TIMEOUT
            while not supervisor.readiness()[0]:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"The stack did not become ready: {supervisor.readiness()[1]}")
                time.sleep(0.1)
            note_to(str(notes))
            with Client(settings=settings) as client:
                yield client
        finally:
            supervisor.stop()
            running.join()
            server.stop()


def stages(client: Client, notes: Path, texts: Sequence[str]) -> dict[str, list[float]]:
    """Return for each stage how many seconds each text spent in it; the first texts warm everything and are left out.

    Args:
        client: Of a noted stack.
        notes: Where it notes.
        texts: Each becomes an urgent job of its own.
    """
    found: dict[str, list[float]] = {name: [] for name in STAGES}
    for number, text in enumerate(texts):
        before = notes.stat().st_size if notes.exists() else 0
        start = time.monotonic()
        job = client.submit([text], priority="urgent")
        job.wait(60)
        waited = time.monotonic()
        job.vectors()
        passed = {"waited": waited, "in hand": time.monotonic()}
        time.sleep(_PAUSE)
        with notes.open() as lines:
            lines.seek(before)
            for line in lines:
                name, when = line.split()
                passed.setdefault(name, float(when))
        if number < 5:
            continue
        for name in STAGES:
            found[name].append(passed[name] - start)
            start = passed[name]
    return found


def main() -> None:
    """Measure, keep the figures and print the table."""
    asked = _arguments()
    texts = TextSource(read_words().spaced, seed=asked.seed).take(_WORDS, asked.texts + 5)
    with tempfile.TemporaryDirectory() as folder, noted_stack(asked.dtype, Path(folder) / "notes") as client:
        start, busy, own = time.perf_counter(), busy_seconds(), cpu_seconds(os.getpid())
        found = stages(client, Path(folder) / "notes", texts)
        seconds = time.perf_counter() - start
        others = (busy_seconds() - busy - cpu_seconds(os.getpid()) + own) / seconds
    totals = np.sum([found[name] for name in STAGES], axis=0)
    section = {
        "machine": describe(),
        "seed": asked.seed,
        "texts": asked.texts,
        "others_cores": round(max(0.0, others), 2),
        "milliseconds": {name: _told(values) for name, values in found.items()},
        "all": _told(totals),
        "outside_the_engine": _told(totals - np.array(found["embed.end"])),
    }
    Kept(asked.output).put(asked.dtype, section)
    _show(asked.dtype, section)


def _told(seconds: Any) -> dict[str, float]:
    marks = {"p10": 10, "median": 50, "p90": 90}
    return {name: round(float(np.percentile(seconds, mark)) * 1000, 2) for name, mark in marks.items()}


def _show(dtype: str, section: dict[str, Any]) -> None:
    show_machine(section["machine"])
    table = Table(title=f"One text on an idle stack, milliseconds; dtype {dtype}", title_justify="left")
    for column in ("stage", "p10", "median", "p90"):
        table.add_column(column)
    rows = {STAGES[name]: row for name, row in section["milliseconds"].items()}
    for title, row in (rows | {"all": section["all"], "all but the engine": section["outside_the_engine"]}).items():
        table.add_row(title, *(f"{row[mark]:.2f}" for mark in ("p10", "median", "p90")))
    console.print(table)
    console.print(f"{section['texts']} texts of about 50 tokens; others used {section['others_cores']:.2f} cores.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="auto", help="what the worker computes in; default auto")
    parser.add_argument("--texts", type=int, default=100, help="texts that are measured; default 100")
    parser.add_argument("--seed", type=int, default=7, help="default 7")
    parser.add_argument("--output", default="passage", help="name of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
