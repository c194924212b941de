"""The HTTP service under load: many calls while a bulk job runs, many streams of events, and files of a gigabyte.

The calls go to a whole stack, the large files to the service alone (`transfers.py`). The memory of both sides is
looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.table import Table

from benchmarks.crowd import call, following
from benchmarks.machine import describe
from benchmarks.memory import Memory
from benchmarks.results import Kept, console, show_machine
from benchmarks.servicetable import rows
from benchmarks.stack import own_stack
from benchmarks.transfers import NOBODYS, download, texts_of, transferred, upload
from embedmill import Client

PARTS = ("calls", "streams", "upload", "download")

_STEMS = 5_000

#: Jobs that are followed, each by as many as the others.
_JOBS = 20

#: Questions that are asked while streams are open, and their pause, in seconds.
_ASKED, _PAUSE = 50, 0.2


def main() -> None:
    """Measure, keep the figures, print the table; fails on an error that should not be."""
    asked = _arguments()
    kept, problems = Kept(asked.output), []
    if {"calls", "streams"} & set(asked.parts):
        with own_stack([], folder=asked.folder) as stack:
            if "calls" in asked.parts:
                with Client(data_dir=stack.data_dir) as client:
                    kept.put("calls", _noted(lambda: _calls(stack.url, service_pid(stack.pid), client, asked)))
                wrong = set(kept.sections["calls"]["statuses"]) - {"200", "429"}
                problems += [f"calls were answered with {', '.join(sorted(wrong))}"] if wrong else []
            if "streams" in asked.parts:
                kept.put("streams", _noted(lambda: _streams(stack.url, service_pid(stack.pid), asked.streams)))
                problems += ["streams were lost"] if kept.sections["streams"]["lost"] else []
    for part, move in (("upload", upload), ("download", download)):
        if part in asked.parts:
            kept.put(part, _noted(lambda move=move: transferred(move, asked.bytes, asked.folder)))  # type: ignore[misc]
    _show(kept)
    if problems:
        raise SystemExit(f"Not as it should be: {'; '.join(problems)}.")


def _noted(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what was measured, with the machine and its load before and after."""
    before = os.getloadavg()[0]
    return {"machine": describe(), **measure(), "load_average": [round(one, 1) for one in (before, os.getloadavg()[0])]}


def service_pid(parent: int) -> int:
    """Return the process id of the service in a stack."""
    (found,) = (one.pid for one in psutil.Process(parent).children() if "embedmill.serviceprocess" in one.cmdline())
    return int(found)


def _calls(url: str, pid: int, client: Client, asked: argparse.Namespace) -> dict[str, Any]:
    stems = texts_of(_STEMS)
    asyncio.run(call(url, stems, asked.clients, 3))
    bulk = client.submit(f"{number} {stems[number % _STEMS]}" for number in range(asked.bulk))
    before = bulk.status()
    with Memory(pid) as memory:
        calls = asyncio.run(call(url, stems, asked.clients, asked.seconds))
    after = bulk.status()
    bulk.cancel()
    if not after.pending:
        raise SystemExit("The bulk job ended before the calls did: give it more texts with --bulk.")
    ordered = sorted(calls.milliseconds)
    marks = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in _SHARES.items()}
    return {
        "clients": asked.clients,
        "seconds": round(calls.seconds, 1),
        "statuses": {str(status): count for status, count in sorted(calls.statuses.items())},
        "calls_per_second": round(len(ordered) / calls.seconds, 1),
        "milliseconds": {name: round(value, 1) for name, value in marks.items()},
        "cpu_milliseconds_a_call": round(memory.cpu_seconds / max(1, len(ordered)) * 1000, 1),
        "bulk_texts_per_second": round((after.succeeded - before.succeeded) / calls.seconds, 1),
        "memory": memory.told(),
        "looks": memory.looks,
    }


_SHARES = {"median": 0.5, "p90": 0.9, "p99": 0.99, "most": 1.0}


def _streams(url: str, pid: int, streams: int) -> dict[str, Any]:
    with httpx.Client(base_url=url, timeout=60) as http:
        jobs = [waiting_job(http) for _ in range(_JOBS)]
        with Memory(pid) as memory:
            told = asyncio.run(followed(url, pid, http, jobs, streams))
    return {"streams": streams, "jobs": _JOBS, **told, "memory": memory.told()}


def waiting_job(http: httpx.Client) -> str:
    """Submit a job that waits for a worker that does not come; return its id."""
    answer = http.post("/v1/jobs", json={"texts": ["wheat"], "revision": NOBODYS})
    return str(answer.raise_for_status().json()["id"])


async def followed(
    url: str, pid: int, http: httpx.Client, jobs: list[str], streams: int, questions: int = _ASKED
) -> dict[str, Any]:
    """Follow jobs by many, ask other things meanwhile, then cancel the jobs.

    Args:
        url: The service.
        pid: Its process.
        http: A client of it.
        jobs: Ids of jobs that wait.
        streams: How many follow.
        questions: How often a job's status is asked for while all streams are open.
    """
    process = psutil.Process(pid)
    begun = time.perf_counter()
    async with following(url, jobs, streams) as followers:
        await followers.until(streams)
        opened = time.perf_counter() - begun
        cpu, begun, waits = process.cpu_times(), time.perf_counter(), []
        for _ in range(questions):
            asked = time.perf_counter()
            (await asyncio.to_thread(http.get, f"/v1/jobs/{jobs[0]}")).raise_for_status()
            waits.append((time.perf_counter() - asked) * 1000)
            await asyncio.sleep(_PAUSE)
        used, seconds = process.cpu_times(), time.perf_counter() - begun
        open_memory = process.memory_info().rss
        begun = time.perf_counter()
        for job in jobs:
            (await asyncio.to_thread(http.post, f"/v1/jobs/{job}/cancel")).raise_for_status()
        await followers.until_ended()
        ended = time.perf_counter() - begun
    return {
        "seconds_to_open": round(opened, 2),
        "seconds_to_end": round(ended, 2),
        "told_the_end": followers.ended,
        "lost": followers.lost,
        "cores": round((used.user + used.system - cpu.user - cpu.system) / seconds, 3),
        "status_milliseconds": {"median": round(statistics.median(waits), 1), "most": round(max(waits), 1)},
        "memory_open": open_memory,
    }


def _show(kept: Kept) -> None:
    show_machine(next(iter(kept.sections.values()))["machine"])
    table = Table(title="The service under load", title_justify="left")
    table.add_column("what")
    table.add_column("measured")
    for row in rows(kept.sections):
        table.add_row(*row)
    console.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--clients", type=int, default=200, help="who call at the same time; default 200")
    parser.add_argument("--seconds", type=float, default=60, help="how long they call; default 60")
    parser.add_argument("--bulk", type=int, default=200_000, help="texts of the bulk job beside them")
    parser.add_argument("--streams", type=int, default=1000, help="open streams of events; default 1000")
    parser.add_argument("--bytes", type=int, default=10**9, help="of an upload and a download; default 1 GB")
    parser.add_argument("--folder", type=Path, help="where databases and files are made: 5 GB; default: the system's")
    parser.add_argument("--output", default="service", help="name of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
