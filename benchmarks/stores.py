"""The stores alone: vectors committed a second, and a job of 1 GB read as .npy into a pipe and to a file.

What is committed goes the way of a worker's results: by as many threads as a worker process has, each some chunks in
one transaction, a guarded update of each chunk and its row. What is read is what `embedmill results` writes; beside it
`cp` of a file of that size on the same disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.databases import KINDS, own_database
from benchmarks.machine import describe
from benchmarks.results import Kept, console, show_machine, spread, told
from embedmill import Client
from producer.exports import ExportHeader, write
from storage.attempts import Claim
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.contract.models import DEFAULT_MODEL, ModelCard
from storage.contract.settings import Settings
from storage.results import ChunkResult
from storage.stores import Stores
from worker.reserve import TASK_THREADS

#: Chunks that are committed in one transaction.
_CHUNKS_A_COMMIT = 4

#: Chunks of so many texts are measured: of about 50 tokens a text, and the most that a chunk holds.
_CHUNK_ITEMS = (160, 1024)

_BYTES_TO_COMMIT = 150_000_000

_WIDTHS = (384, 768)


class Results:
    """A database with a job whose chunks are leased, and results for them.

    Args:
        url: The database.
        width: Components of a vector.
        items: Texts of a chunk.
        vectors: How many texts, about.
    """

    def __init__(self, url: str, width: int, items: int, vectors: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="embedmill-bench-")
        settings = Settings(database_url=url, data_dir=Path(self._folder.name), redis_url=None)
        self.client = Client(settings=settings)
        self._stores = Stores.open(settings)
        self.card = ModelCard(DEFAULT_MODEL, new_id(), "float32", width, 512, 6, "mean", True)
        self._worker = new_id()
        self._stores.workers.register(self.card, self._worker, "localhost", 0, "cpu")
        self.total = max(1, vectors // items) * items
        # A text's estimated tokens decide how many go into a chunk.
        text = "word " * max(1, round(8000 / items / 1.3)) if items < 1024 else "word"
        self.job = self.client.submit((text for _ in range(self.total)), revision=self.card.revision)
        self.claims = list(self._claims())
        self._matrix = np.random.default_rng(7).standard_normal((4096, width), dtype=np.float32)

    def commit(self) -> float:
        """Commit a result for every chunk; return how many seconds that took."""
        results = [(claim, self._result(claim)) for claim in self.claims]
        together = [results[place : place + _CHUNKS_A_COMMIT] for place in range(0, len(results), _CHUNKS_A_COMMIT)]
        with ThreadPoolExecutor(TASK_THREADS) as threads:
            start = time.perf_counter()
            for _ in threads.map(self._stores.leases.commit, together):
                pass
            seconds = time.perf_counter() - start
        if self.job.status().succeeded != self.total:
            raise SystemExit(f"{self.job.status().succeeded} of {self.total} vectors are there: no result.")
        return seconds

    def check(self) -> None:
        """Compare the last page with what was committed; fails when it differs."""
        page = list(self.job.pages())[-1]
        expected = self._rows(len(self.claims) - 1, page.size)
        found = page.matrix()
        if found is None or page.first + page.size != self.total or not np.array_equal(found, expected):
            raise SystemExit("What was read is not what was committed: no result.")

    def check_file(self, file: Path) -> None:
        """Compare the end of an exported file with what was committed; fails when it differs."""
        expected = self._rows(len(self.claims) - 1, self.claims[-1].size)
        if not np.array_equal(np.load(file, mmap_mode="r")[-len(expected) :], expected):
            raise SystemExit("What was exported is not what was committed: no result.")

    def export(self, target: Path | Any) -> float:
        """Write the job as .npy; return how many seconds that took."""
        header = ExportHeader(self.job.id, self.card.name, self.total, self.card.width, "float32", False)
        start = time.perf_counter()
        write(header, self.job.pages(), target, "npy", force=True)
        return time.perf_counter() - start

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self._stores.database.close()
        self._folder.cleanup()

    def _claims(self) -> Iterator[Claim]:
        number = 0
        while True:
            found = self._stores.leases.claim(Pointer(self.job.id, number), self._worker, self.card.id, 1_000_000)
            if not found:
                return
            yield from sorted(found, key=lambda claim: claim.number)
            number = max(claim.number for claim in found) + 1

    def _result(self, claim: Claim) -> ChunkResult:
        tokens = np.full(claim.size, 50, np.int32)
        return ChunkResult(self._rows(claim.number, claim.size), "float32", tokens, tokens, {})

    def _rows(self, number: int, size: int) -> NDArray[np.float32]:
        start = number * 7 % (len(self._matrix) - size + 1)
        return self._matrix[start : start + size]


@contextmanager
def results(kind: str, folder: Path | None, width: int, items: int, vectors: int) -> Iterator[Results]:
    """Make a database of its own with leased chunks."""
    with own_database(kind, folder) as database:
        made = Results(database.url, width, items, vectors)
        try:
            yield made
        finally:
            made.close()


def main() -> None:
    """Measure, keep the figures and print the tables."""
    asked = _arguments()
    kept = Kept(asked.output)
    for kind in asked.databases:
        kept.put(f"commit-{kind}", {"machine": describe(), "runs": _commits(kind, asked)})
        kept.put(f"read-{kind}", {"machine": describe(), **_reads(kind, asked)})
    _show(kept, asked.databases)


def _commits(kind: str, asked: argparse.Namespace) -> list[dict[str, Any]]:
    runs = []
    for width in _WIDTHS:
        for items in _CHUNK_ITEMS:
            rates = []
            for _ in range(asked.rounds):
                with results(kind, asked.folder, width, items, asked.commit_bytes // (4 * width)) as made:
                    rates.append(made.total / made.commit())
                    made.check()
            found = spread(rates, 0)
            runs.append({"width": width, "texts_a_chunk": items, "vectors": made.total, "vectors_a_second": found})
            console.print(f"{kind}, {width} wide, chunks of {items}: {told(found, ',.0f')}", style="dim")
    return runs


def _reads(kind: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Read a large job as .npy in each way, in turn."""
    width = _WIDTHS[0]
    with (
        results(kind, asked.folder, width, _CHUNK_ITEMS[-1], asked.read_bytes // (4 * width)) as made,
        tempfile.TemporaryDirectory(prefix="embedmill-bench-", dir=asked.folder) as folder,
    ):
        made.commit()
        source, target = Path(folder) / "vectors.npy", Path(folder) / "copy.npy"
        made.export(source)
        ways: dict[str, Callable[[], float]] = {
            "pipe": lambda: _into_pipe(made),
            "file": lambda: made.export(target),
            "cp": lambda: _copy(source, target, synced=False),
            "cp, synced": lambda: _copy(source, target, synced=True),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(asked.rounds):
            for way, measure in ways.items():
                seconds[way].append(measure())
                target.unlink(missing_ok=True)
        size = source.stat().st_size
        made.check_file(source)
    rates = {way: spread([size / one / 1e6 for one in found], 0) for way, found in seconds.items()}
    return {"bytes": size, "megabytes_a_second": rates}


def _into_pipe(made: Results) -> float:
    reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert reader.stdin is not None
    with reader.stdin as pipe:
        seconds = made.export(pipe)
    reader.wait()
    return seconds


def _copy(source: Path, target: Path, synced: bool) -> float:
    start = time.perf_counter()
    subprocess.run([shutil.which("cp") or "cp", source, target], check=True)
    if synced:
        with target.open("rb") as file:
            os.fsync(file.fileno())
    return time.perf_counter() - start


def _show(kept: Kept, kinds: list[str]) -> None:
    show_machine(kept.sections[f"commit-{kinds[0]}"]["machine"])
    table = Table(title="Vectors committed a second", title_justify="left")
    for column in ("database", "width", "texts a chunk", "vectors/s"):
        table.add_column(column)
    for kind in kinds:
        for one in kept.sections[f"commit-{kind}"]["runs"]:
            table.add_row(kind, str(one["width"]), str(one["texts_a_chunk"]), told(one["vectors_a_second"], ",.0f"))
    console.print(table)
    table = Table(title="A job read as .npy, MB/s", title_justify="left")
    for column in ("database", "way", "MB/s"):
        table.add_column(column)
    for kind in kinds:
        for way, rate in kept.sections[f"read-{kind}"]["megabytes_a_second"].items():
            table.add_row(kind, way, told(rate, ",.0f"))
    console.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--databases", nargs="+", choices=KINDS, default=list(KINDS), help="default: both")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--commit-bytes", type=int, default=_BYTES_TO_COMMIT, help="vectors of a round of commits")
    parser.add_argument("--read-bytes", type=int, default=2**30, help="vectors of the job that is read; default 1 GiB")
    parser.add_argument("--folder", type=Path, help="where databases and files are made: 4 GB; default: the system's")
    parser.add_argument("--output", default="stores", help="name of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
