"""Large files into the HTTP service and out of it: the service alone, and each sender a process of its own.

The database's vectors were committed beforehand, and no worker takes its texts: nothing is embedded.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx

from benchmarks.lengths import Uniform
from benchmarks.machine import peak_memory
from benchmarks.memory import Memory
from benchmarks.stores import results
from benchmarks.texts import TextSource
from benchmarks.words import read_words
from embedmill import Client

#: Words of a text: about 50 tokens.
_WORDS = Uniform(36, 38)

#: Of the default model, a revision that nobody serves: a job for it waits.
NOBODYS = "feedbeef"

#: Longest start of the service, in seconds.
_START = 60.0

#: Returns what was measured; runs in a process of its own.
Transfer = Callable[[str, str, int, Path], dict[str, Any]]


def texts_of(count: int) -> list[str]:
    """Return texts of about 50 tokens."""
    return TextSource(read_words().spaced).take(_WORDS, count)


def transferred(move: Transfer, size: int, folder: Path | None = None) -> dict[str, Any]:
    """Return rate and memory of moving so many bytes between a service alone and a client, each a process of its own.

    Args:
        move: What the client does.
        size: In bytes.
        folder: Where the database and the files are made; default: the system's.
    """
    vectors = size // (4 * 384) if move is download else 1
    with results("sqlite", folder, 384, 1024, vectors) as made, tempfile.TemporaryDirectory(dir=folder) as own:
        made.commit()
        with service_alone(str(made.client.settings.database_url), Path(own)) as (url, pid):
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_moved, args=(theirs, move, url, made.job.id, size, Path(own)))
            process.start()
            theirs.close()
            with Memory(pid, 0.1) as memory:
                try:
                    found: dict[str, Any] = ours.recv()
                except EOFError:
                    raise SystemExit("The client ended without a result.") from None
                finally:
                    process.join()
            found["service_cpu_seconds"] = round(memory.cpu_seconds, 1)
            found["service_memory"] = {**memory.told(), "peak": peak_memory(pid)}
    return found | {"megabytes_per_second": round(found["bytes"] / 1e6 / found["seconds"], 1)}


def _moved(connection: Connection, move: Transfer, url: str, job: str, size: int, folder: Path) -> None:
    before = peak_memory()
    found = move(url, job, size, folder)
    connection.send({**found, "client_memory": {"first": before, "peak": peak_memory()}})


def upload(url: str, job: str, size: int, folder: Path) -> dict[str, Any]:
    """Submit so many bytes of NDJSON in one stream, as a job that waits."""
    del job, folder
    stems = [json.dumps({"text": text})[10:].encode() for text in texts_of(500)]
    sent = 0

    def blocks() -> Iterator[bytes]:
        nonlocal sent
        block: list[bytes] = []
        for number in itertools.count():
            block.append(b'{"text": "%d %s\n' % (number, stems[number % len(stems)]))
            if len(block) == 500:
                told = b"".join(block)
                sent += len(told)
                yield told
                block.clear()
                if sent >= size:
                    return

    headers = {"Content-Type": "application/x-ndjson"}
    with httpx.Client(base_url=url, timeout=600) as http:
        start = time.perf_counter()
        answer = http.post("/v1/jobs", content=blocks(), headers=headers, params={"revision": NOBODYS})
        seconds = time.perf_counter() - start
        told = answer.raise_for_status().json()
        http.post(f"/v1/jobs/{told['id']}/cancel").raise_for_status()
    return {"bytes": sent, "texts": told["total"], "seconds": round(seconds, 2)}


def download(url: str, job: str, size: int, folder: Path) -> dict[str, Any]:
    """Save a job's vectors as .npy with our own client."""
    del size
    target = folder / "vectors.npy"
    with Client(url) as client:
        start = time.perf_counter()
        client.job(job).save(target)
        seconds = time.perf_counter() - start
    return {"bytes": target.stat().st_size, "seconds": round(seconds, 2)}


@contextmanager
def service_alone(database_url: str, folder: Path) -> Iterator[tuple[str, int]]:
    """Run the service in a process of its own, without workers; yield where it answers, and its process id.

    Args:
        database_url: Its database.
        folder: Where its data folder and its log are made.
    """
    log = folder / "service.log"
    place = ["--data-dir", str(folder / "data"), "--database-url", database_url, "--port", "0"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EMBEDMILL_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "embedmill", "api", *place], cwd=folder, env=kept, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + _START
        while (found := re.search(r"answers at (\S+) ", log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"The service does not start: {log.read_text()[-1000:]}")
            time.sleep(0.05)
        yield found[1], process.pid
    finally:
        process.terminate()
        process.wait(30)
