"""What `embedmill top` shows, at every size of a terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from producer.overview import Overview, QueueLine, WorkerLine
from producer.topview import SORTS, age, count, frame, size, still
from storage.jobstatus import JobStatus
from storage.pulses import Pulse

#: 1 January 2026, at noon.
_NOON = 1_767_268_800.0


PULSE = Pulse(5678.0, 0.934, 0.041, 1_503_238_554, 10 * 2**30, 80 * 2**30)


def job(number: int, state: str = "running", **given: Any) -> JobStatus:
    values: dict[str, Any] = {
        "id": f"0190a000-0000-7000-8000-{number:012d}",
        "state": state,
        "model": "mill/grain",
        "total": 1000,
        "succeeded": 400,
        "failed": 0,
        "cancelled": 0,
        "pending": 600,
        "truncated": 0,
        "tokens": 9_000,
        "tokens_per_second": 1234.0,
        "eta_seconds": 90.0,
        "created_at": "2026-01-01T12:00:00.000Z",
        "started_at": None,
        "finished_at": None,
        "error": None,
        "waiting_for": None,
    }
    return JobStatus(**(values | given))


def worker(number: int, pulse: Pulse = PULSE, version: str | None = "1.2.3") -> WorkerLine:
    load = (number, 99 * number, 99_000 * number)
    return WorkerLine("cuda:0", f"host{number}", 4711, "mill/grain", *load, 7200, 1, version, pulse)


def overview(queues: int = 2, workers: int = 2, jobs: int = 5) -> Overview:
    return Overview(
        [QueueLine(f"mill/grain-{n}", "float32", n, 10**n, 10 ** (n + 3), 75.0, 4321.0) for n in range(queues)],
        [worker(n) for n in range(workers)],
        [job(n, "completed" if n % 3 == 2 else "running", failed=n) for n in range(jobs)],
        0.01,
        _NOON,
    )


def lines(picture: Any, width: int, height: int = 100) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, height=height, legacy_windows=False).print(picture)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 96, 112, 200])
@pytest.mark.parametrize("height", [12, 24, 50])
@pytest.mark.parametrize("shape", [(0, 0, 0), (2, 2, 5), (30, 64, 200)])
def test_a_frame_fills_the_terminal_and_no_more(width: int, height: int, shape: tuple[int, int, int]) -> None:
    shown = lines(frame(overview(*shape), "sqlite:///mill", width, height), width, height)
    assert len(shown) == height
    assert max(map(len, shown)) <= width
    assert shown[-1].startswith("q quit")


def test_at_eighty_by_twenty_four_everything_is_there() -> None:
    shown = "\n".join(lines(frame(overview(), "sqlite:///mill", 80, 24), 80, 24))
    for word in ("MODEL", "OLDEST", "WORKER", "cuda:0 on host1", "JOB", "running", "40 %", "1.2k", "90s", "idle"):
        assert word in shown, shown
    # Names and ids are short enough to be told apart
    assert "…000000000004" in shown and "mill/grain-1 float32" in shown
    for width in (96, 120):
        wide = "\n".join(lines(frame(overview(), "sqlite:///mill", width, 24), width, 24))
        assert job(4).id in wide and "cuda:0 on host1, 4711 " in wide and " grain " in wide


def test_a_job_that_has_a_name_is_shown_with_it_where_there_is_room() -> None:
    named = Overview([], [], [job(1, name="harvest\x1b[2J of 2026"), job(2)], 0.0, _NOON)
    for width, told in ((80, "…000000000001 harv"), (132, f"{job(1).id} harvest\N{REPLACEMENT CHARACTER}[2J of 2026")):
        shown = lines(frame(named, "x", width, 24), width, 24)
        assert any(line.startswith(told) for line in shown), shown
        assert "\x1b" not in "".join(shown) and max(map(len, shown)) <= width


def test_what_is_told_of_a_worker_grows_with_the_terminal() -> None:
    told = {
        60: "JOBS TEXTS TOKENS/S UP SEEN",
        80: "JOBS TEXTS TOKENS/S MEMORY UP SEEN",
        96: "MODEL JOBS TEXTS TOKENS TOKENS/S FILL MEMORY UP SEEN",
        132: "MODEL JOBS TEXTS TOKENS TOKENS/S FILL PADDING MEMORY GPU MEMORY VERSION UP SEEN",
    }
    for width, heads in told.items():
        shown = lines(frame(overview(), "x", width, 24), width, 24)
        (head,) = [line.split() for line in shown if line.startswith("WORKER")]
        assert head == ["WORKER", *heads.split()]
    (busy,) = [line.split()[3:] for line in shown if line.startswith("cuda:0 on host1")]
    assert " ".join(busy) == "4711 grain 1 99 99.0k 5.7k 93 % 4 % 1.4G 10.0G/80.0G 1.2.3 2h00 1s"


def test_a_worker_that_tells_nothing_is_shown_all_the_same() -> None:
    # Given a worker of the version before, beside one without a GPU
    workers = [worker(1, Pulse(), None), worker(2, Pulse(0.0, None, None, 600 * 2**20))]
    shown = lines(frame(Overview([], workers, [], 0.0, _NOON), "x", 160, 24), 160, 24)
    # Then what is not known is a dash, and nobody speaks of GPUs
    assert not any("GPU" in line for line in shown)
    old, young = ([*line.split()[4:]] for line in shown if line.startswith("cuda:0"))
    assert old == ["grain", "1", "99", "99.0k", "-", "-", "-", "-", "older", "2h00", "1s"]
    assert young == ["grain", "2", "198", "198k", "0", "-", "-", "600M", "1.2.3", "2h00", "1s"]


def test_a_worker_that_is_silent_is_not_shown_as_fast_as_it_was() -> None:
    frozen = replace(worker(1), seen_seconds=16.0)
    shown = lines(frame(Overview([], [frozen], [], 0.0, _NOON), "x", 160, 24), 160, 24)
    (line,) = [line.split()[4:] for line in shown if line.startswith("cuda:0")]
    assert line == ["grain", "1", "99", "99.0k", *"-----", "1.2.3", "2h00", "16s"]


def test_what_does_not_fit_is_counted() -> None:
    shown = "\n".join(lines(frame(overview(20, 40, 60), "x", 80, 24), 80, 24))
    assert shown.count("more") == 3
    assert "more" not in "\n".join(lines(still(overview(20, 40, 60), "x", 80), 80))


def test_a_model_without_workers_and_a_notice_are_seen() -> None:
    shown = lines(frame(overview(), "x", 80, 24, notice="The database does not answer."), 80, 24)
    assert shown[-1] == "The database does not answer."
    assert any("mill/grain-0 float32" in line and " 0 " in line for line in shown)


@pytest.mark.parametrize(("sort", "first"), [("newest", 1), ("fastest", 3), ("largest", 2), ("longest", 4)])
def test_jobs_are_sorted_as_wished_and_ended_ones_come_last(sort: str, first: int) -> None:
    assert set(SORTS) == {"newest", "fastest", "largest", "longest"}
    jobs = [
        job(9, "completed", pending=0, tokens_per_second=1e6, eta_seconds=1e6),
        job(1),
        job(2, pending=900),
        job(3, tokens_per_second=9999.0),
        job(4, eta_seconds=8000.0),
    ]
    shown = lines(frame(Overview([], [], jobs, 0.0, _NOON), "x", 120, 30, sort), 120, 30)
    ids = [line.split()[0][-1] for line in shown if line.startswith("0190a000")]
    assert ids[0] == str(first) and ids[-1] == "9"


def test_numbers_and_times_are_short() -> None:
    assert [count(n) for n in (0, 7, 999, 1000, 12_345, 999_499, 1_000_000, 4.5e9)] == [
        "0", "7", "999", "1.0k", "12.3k", "999k", "1.0M", "4.5G",
    ]  # fmt: skip
    assert [size(n * 2**20) for n in (0, 612, 1400, 80_000, 200_000, 5_000_000)] == [
        "0M", "612M", "1.4G", "78.1G", "195G", "4.8T",
    ]  # fmt: skip
    assert [age(s) for s in (None, 7, 99, 240, 3600, 11_520, 500_000)] == ["-", "7s", "99s", "4m", "60m", "3h12", "6d"]
