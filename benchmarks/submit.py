"""Speed and peak memory of submitting up to millions of texts of about 50 tokens, through each door.

Every size is submitted by a process of its own to an empty database; no worker is needed. Memory must not grow with the
number of texts, but for 16 bytes a caller's id, once the database's page cache is full.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.databases import OwnDatabase, own_database
from benchmarks.lengths import Uniform
from benchmarks.machine import busy_seconds, describe, peak_memory
from benchmarks.results import Kept, console, show_machine
from benchmarks.texts import TextSource
from benchmarks.words import read_words
from embedmill import Client

_SIZES = [250_000, 2_000_000]

_BYTES_AN_ID = 16

#: What a small submission may not have filled yet: SQLite's page cache of 64 MiB, the allocator's slack.
_SLACK = (64 + 8) * 2**20

#: Words of a text, with a number before it: about 50 tokens.
_WORDS = Uniform(36, 38)

#: Texts made beforehand; each of the millions is one of them with a number before it.
_STEMS = 10_000

#: How often the memory of a command is looked at, in seconds.
_LOOK = 0.05


@dataclass(frozen=True, slots=True)
class Door:
    """A way in.

    Args:
        title: What it is.
        database: Kind of the database behind it.
        with_ids: Whether texts have callers' ids.
        command: Whether a jsonl file goes through the command line, instead of Python's `Client.submit`.
    """

    title: str
    database: str
    with_ids: bool = False
    command: bool = False


DOORS = {
    "client-sqlite": Door("Client to SQLite", "sqlite"),
    "client-sqlite-ids": Door("Client to SQLite, with callers' ids", "sqlite", with_ids=True),
    "client-postgresql": Door("Client to PostgreSQL", "postgresql"),
    "command-sqlite": Door("a jsonl file through the command line to SQLite", "sqlite", command=True),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One submission.

    Args:
        texts: How many.
        seconds: How long it took; through the command line from the start of the process to its end.
        peak_bytes: The most memory of the submitting process.
        others: Processor time meanwhile used by others, in cores.
    """

    texts: int
    seconds: float
    peak_bytes: int
    others: float

    @property
    def rate(self) -> float:
        """Texts a second."""
        return self.texts / self.seconds


def main() -> None:
    """Measure every door with every size, keep the figures, print the table; fails when memory grows."""
    asked = _arguments()
    kept = Kept(asked.output)
    problems = []
    for name in asked.doors:
        door = DOORS[name]
        runs = []
        for size in sorted(asked.sizes):
            runs.append(_measure(door, size, asked.folder))
            console.print(f"{door.title}: {size:,} texts, {runs[-1].rate:,.0f} texts/s", style="dim")
        problem = _growth(door, runs)
        problems += [problem] if problem else []
        told = [asdict(one) | {"texts_per_second": round(one.rate)} for one in runs]
        kept.put(name, {"machine": describe(), "title": door.title, "memory_is_flat": problem is None, "runs": told})
    _show([kept.sections[name] for name in asked.doors])
    if problems:
        raise SystemExit("\n".join(problems))


def _measure(door: Door, size: int, folder: Path | None) -> Measured:
    """Submit in a fresh process and return what was measured; its database is removed."""
    with own_database(door.database, folder) as database:
        return _by_command(size, database, folder) if door.command else _by_client(door, size, database)


def _by_client(door: Door, size: int, database: OwnDatabase) -> Measured:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_submit, args=(theirs, size, door.with_ids, database))
    process.start()
    theirs.close()
    try:
        measured: Measured = ours.recv()
    except EOFError:
        raise SystemExit("The submitting process ended without a result.") from None
    finally:
        process.join()
    return measured


def _submit(connection: Connection, size: int, with_ids: bool, database: OwnDatabase) -> None:
    texts = _texts(size)
    next(texts)
    with tempfile.TemporaryDirectory() as nowhere, Client(database_url=database.url, data_dir=nowhere) as client:
        ids = (f"record-{number:010d}" for number in range(size)) if with_ids else None
        busy, own = busy_seconds(), time.process_time() + database.cpu_seconds()
        start = time.perf_counter()
        job = client.submit(texts, ids=ids)
        seconds = time.perf_counter() - start
        own = time.process_time() + database.cpu_seconds() - own
        others = max(0.0, busy_seconds() - busy - own) / seconds
        if job.status().total != size:
            raise SystemExit(f"{job.status().total} of {size} texts were accepted.")
    connection.send(Measured(size, seconds, peak_memory(), others))


def _by_command(size: int, database: OwnDatabase, folder: Path | None) -> Measured:
    with tempfile.TemporaryDirectory(prefix="embedmill-bench-", dir=folder) as own:
        source = Path(own) / "texts.jsonl"
        texts = _texts(size)
        next(texts)
        with source.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
        command = [sys.executable, "-m", "embedmill", "submit", str(source)]
        options = ["--database-url", database.url, "--data-dir", own]
        busy, start, peak, cpu = busy_seconds(), time.perf_counter(), 0, 0.0
        process = subprocess.Popen([*command, *options], cwd=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            peak, cpu = _looked_at(process.pid, peak, cpu)
            time.sleep(_LOOK)
        seconds = time.perf_counter() - start
        if process.returncode != 0:
            raise SystemExit(f"`embedmill submit` ended with {process.returncode}.")
        return Measured(size, seconds, peak, max(0.0, busy_seconds() - busy - cpu) / seconds)


def _looked_at(pid: int, peak: int, cpu: float) -> tuple[int, float]:
    """Return the most memory and the processor time that a process has had so far; the same again once it is gone."""
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
        return max(peak, peak_memory(pid)), times.user + times.system
    except (psutil.NoSuchProcess, OSError, RuntimeError):
        return peak, cpu


def _texts(size: int) -> Iterator[str]:
    """Yield an empty text once everything is prepared, then `size` texts."""
    stems = TextSource(read_words().spaced).take(_WORDS, _STEMS)
    yield ""
    for number in range(size):
        yield f"{number} {stems[number % len(stems)]}"


def _growth(door: Door, runs: list[Measured]) -> str | None:
    """Return how memory grew from the smallest size to the largest, if by more than it may."""
    smallest, largest = runs[0], runs[-1]
    allowed = _SLACK + (largest.texts - smallest.texts) * _BYTES_AN_ID * door.with_ids
    grown = largest.peak_bytes - smallest.peak_bytes
    return f"{door.title}: memory grew by {grown:,} bytes, more than {allowed:,}." if grown > allowed else None


def _show(sections: list[dict[str, Any]]) -> None:
    show_machine(sections[0]["machine"])
    table = Table(title="Submitting texts of about 50 tokens, in a process of its own", title_justify="left")
    for column in ("door", "texts", "texts/s", "seconds", "peak memory, MiB", "others, cores"):
        table.add_column(column, justify="left" if column == "door" else "right")
    for section in sections:
        for one in section["runs"]:
            numbers = [f"{one['texts']:,}", f"{one['texts_per_second']:,}", f"{one['seconds']:.1f}"]
            table.add_row(section["title"], *numbers, f"{one['peak_bytes'] / 2**20:,.0f}", f"{one['others']:.2f}")
    console.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=_SIZES, help="numbers of texts")
    parser.add_argument("--doors", nargs="+", choices=DOORS, default=list(DOORS), help="default: all")
    parser.add_argument("--folder", type=Path, help="where databases are made: some GB; default: the system's")
    parser.add_argument("--output", default="submit", help="name of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
