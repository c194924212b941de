"""Peak memory and speed of a client that submits millions of short texts, with callers' ids and without.

Every size is submitted by a process of its own, to SQLite in a temporary folder; no worker is needed. Memory must not
grow with the number of texts, but for 16 bytes a caller's id, once the database's page cache is full.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from machine import busy_seconds, describe, peak_memory
from rich.console import Console
from rich.table import Table
from texts import LENGTHS, TextSource, example_sentences

from embedmill import Client

_RESULT = Path(__file__).resolve().parent / "results" / "submit_memory.json"

_SIZES = [500_000, 1_000_000, 2_000_000, 5_000_000]

_BYTES_AN_ID = 16

#: What a small submission may not have filled yet: SQLite's page cache of 64 MiB, the allocator's slack.
_SLACK = (64 + 8) * 2**20

#: Texts made beforehand; each of the millions is one of them with a number before it.
_STEMS = 10_000

console = Console(highlight=False, width=100)


@dataclass(frozen=True, slots=True)
class Measured:
    """One submission.

    Args:
        texts: How many.
        with_ids: Whether with callers' ids.
        seconds: How long `submit` took.
        peak_bytes: The most memory of the process.
        start_bytes: The same, before `submit`.
        others: Processor time meanwhile used by others, in cores.
    """

    texts: int
    with_ids: bool
    seconds: float
    peak_bytes: int
    start_bytes: int
    others: float

    @property
    def rate(self) -> float:
        """Texts a second."""
        return self.texts / self.seconds


def main() -> None:
    """Measure every size, write the figures, print the table; fails when memory grows."""
    asked = _arguments()
    found = []
    for with_ids in (False, True):
        for size in sorted(asked.texts):
            found.append(_measure(size, with_ids, asked.folder))
            console.print(f"{size:,} texts{' with ids' * with_ids}: {found[-1].rate:,.0f} texts/s", style="dim")
    problems = [problem for with_ids in (False, True) if (problem := _growth(found, with_ids))]
    figures = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "runs": [asdict(one) | {"texts_per_second": round(one.rate)} for one in found],
    }
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _show(found)
    if problems:
        raise SystemExit("\n".join(problems))


def _measure(size: int, with_ids: bool, folder: Path | None) -> Measured:
    """Submit in a fresh process and return what it measured; its database is deleted."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="embedmill-bench-", dir=folder) as data_dir:
        process = context.Process(target=_submit, args=(theirs, size, with_ids, data_dir))
        process.start()
        theirs.close()
        try:
            measured: Measured = ours.recv()
        except EOFError:
            raise SystemExit("The submitting process ended without a result.") from None
        finally:
            process.join()
    return measured


def _submit(connection: Connection, size: int, with_ids: bool, data_dir: str) -> None:
    stems = TextSource(example_sentences()).take(LENGTHS["sentences"], _STEMS)
    with Client(data_dir=data_dir) as client:
        ids = (f"record-{number:010d}" for number in range(size)) if with_ids else None
        start_bytes, busy, own = peak_memory(), busy_seconds(), time.process_time()
        start = time.perf_counter()
        job = client.submit(_texts(stems, size), ids=ids)
        seconds = time.perf_counter() - start
        others = (busy_seconds() - busy - time.process_time() + own) / seconds
        peak = peak_memory()
        if job.status().total != size:
            raise SystemExit(f"{job.status().total} of {size} texts were accepted.")
    connection.send(Measured(size, with_ids, seconds, peak, start_bytes, max(0.0, others)))


def _texts(stems: list[str], size: int) -> Iterator[str]:
    for number in range(size):
        yield f"{number} {stems[number % len(stems)]}"


def _growth(found: list[Measured], with_ids: bool) -> str | None:
    """Return how memory grew from the smallest size to the largest, if by more than it may."""
    smallest, *_, largest = [one for one in found if one.with_ids == with_ids]
    allowed = _SLACK + (largest.texts - smallest.texts) * _BYTES_AN_ID * with_ids
    grown = largest.peak_bytes - smallest.peak_bytes
    if grown <= allowed:
        return None
    return f"{'With' if with_ids else 'Without'} ids memory grew by {grown:,} bytes, more than {allowed:,}."


def _show(found: list[Measured]) -> None:
    table = Table(title="A client that submits, in a process of its own", title_justify="left")
    for column in ("texts", "ids", "peak memory, MiB", "before, MiB", "texts/s", "seconds", "others, cores"):
        table.add_column(column, justify="right")
    for one in found:
        sizes = [f"{size / 2**20:,.0f}" for size in (one.peak_bytes, one.start_bytes)]
        speed = [f"{one.rate:,.0f}", f"{one.seconds:.1f}", f"{one.others:.2f}"]
        table.add_row(f"{one.texts:,}", "yes" if one.with_ids else "no", *sizes, *speed)
    console.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, nargs="+", default=_SIZES, help="sizes; default: half a million to five")
    parser.add_argument("--folder", type=Path, help="where the databases are made: some GB; default: the system's")
    parser.add_argument("--output", type=Path, default=_RESULT, help="where the figures are written")
    return parser.parse_args()


if __name__ == "__main__":
    main()
