"""How an overview looks on a terminal of any size: what is most worth seeing where there is little room."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from producer.overview import Overview, QueueLine, WorkerLine
from producer.words import printable
from producer.words import short as count
from storage.contract.states import FINAL_JOB_STATES, JobState
from storage.jobstatus import JobStatus
from storage.pulses import SILENT, UNTOLD

_COLOURS = {"completed": "green", "failed": "red", "cancelled": "yellow", "expired": "yellow", "running": "cyan"}

#: How jobs may be sorted: the name, and what is compared.
SORTS: dict[str, Callable[[JobStatus], float]] = {
    "newest": lambda job: 0.0,  # as they come
    "fastest": lambda job: -(job.tokens_per_second or 0.0),
    "largest": lambda job: -float(job.pending),
    "longest": lambda job: -(job.eta_seconds or 0.0),
}

#: From so many columns on there is room for whole ids, and for what a worker serves.
_WIDE = 96

#: What is told of a worker, and from how many columns on there is room for it.
_OF_WORKER: dict[str, int] = {
    "JOBS": 0,
    "TEXTS": 0,
    "TOKENS": _WIDE,
    "TOKENS/S": 0,
    "FILL": _WIDE,
    "PADDING": 108,
    "MEMORY": 72,
    "GPU MEMORY": 120,
    "VERSION": 132,
    "UP": 0,
    "SEEN": 0,
}


def frame(
    overview: Overview, where: str, width: int, height: int, sort: str = "newest", notice: str | None = None
) -> Group:
    """Return an overview as it fits into a terminal, whose every line it fills.

    Args:
        overview: What is shown.
        where: What it is of.
        width: Columns of the terminal.
        height: Lines of it.
        sort: One of `SORTS`.
        notice: A line at the bottom, in place of the one that names the keys.
    """
    parts, used = _parts(overview, where, width, height - 1, sort)
    keys = Text(f"q quit   p pause   s sort: {sort}", style="dim")
    last = Text(notice, style="bold red", no_wrap=True, overflow="ellipsis") if notice else keys
    return Group(*parts, *[Text()] * max(0, height - 1 - used), last)


def still(overview: Overview, where: str, width: int) -> Group:
    """Return all of an overview, as high as it comes.

    Args:
        overview: What is shown.
        where: What it is of.
        width: Columns to fill.
    """
    return Group(*_parts(overview, where, width, 1_000, "newest")[0])


def _parts(overview: Overview, where: str, width: int, height: int, sort: str) -> tuple[list[RenderableType], int]:
    """Return the lines of an overview, and how many there are."""
    wide = width >= _WIDE
    jobs = sorted(overview.jobs, key=lambda job: (JobState(job.state) in FINAL_JOB_STATES, SORTS[sort](job)))
    # One line at the top, and an empty one and a heading before each part.
    room = max(3, height - 7)
    queues, workers = _shares(room, len(overview.queues), len(overview.workers), len(jobs))
    left = room - queues - workers
    parts: list[RenderableType] = [
        _head(overview, where, width),
        Text(),
        _queues(overview.queues, queues),
        Text(),
        _workers(overview.workers, workers, width),
        Text(),
        _jobs(jobs, left, wide, width),
    ]
    shown = ((queues, len(overview.queues)), (workers, len(overview.workers)), (left, len(jobs)))
    return parts, 7 + sum(min(most, max(1, rows)) for most, rows in shown)


def _shares(room: int, queues: int, workers: int, jobs: int) -> tuple[int, int]:
    """Return how many lines queues and workers get: what they need, as long as half is left for jobs."""
    wanted_queues, wanted_workers = max(1, queues), max(1, workers)
    for_jobs = min(max(1, jobs), room // 2)
    spare = room - for_jobs
    share = min(wanted_queues, max(1, spare // 3))
    return share, max(1, min(wanted_workers, spare - share))


def _head(overview: Overview, where: str, width: int) -> Text:
    waiting, tokens = (sum(getattr(queue, of) for queue in overview.queues) for of in ("texts", "tokens"))
    told = f"{count(waiting)} texts, {count(tokens)} tokens wait   {count(overview.tokens_per_second)} tokens/s"
    clock = time.strftime("%H:%M:%S", time.localtime(overview.at))
    head = Text.assemble(("embedmill ", "bold"), (told, "bold cyan"))
    tail = f"{where}  {clock}"
    if head.cell_len + len(tail) + 2 > width:
        tail = clock
    head.append(" " * max(1, width - head.cell_len - len(tail)))
    head.append(tail, style="dim")
    head.truncate(width)
    return head


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, expand=True, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for number, (name, justify) in enumerate(columns):
        flexible = number == 0
        table.add_column(
            name,
            justify="right" if justify == "right" else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if flexible else None,
        )
    return table


def _fit(rows: Sequence[object], most: int) -> tuple[int, str | None]:
    """Return how many rows are shown, and what is said of the others."""
    if len(rows) <= most:
        return len(rows), None
    return max(0, most - 1), f"and {len(rows) - max(0, most - 1):,} more"


def _queues(queues: Sequence[QueueLine], most: int) -> Table:
    numbers = ("WORKERS", "TEXTS", "TOKENS", "OLDEST", "TOKENS/S")
    table = _table(("MODEL", "left"), *((name, "right") for name in numbers))
    most_waiting = sorted(queues, key=lambda queue: -queue.tokens)
    number, more = _fit(most_waiting, most)
    for queue in most_waiting[:number]:
        forsaken = queue.texts and not queue.workers
        name = Text(printable(f"{queue.model} {queue.precision}" if queue.model else "models never seen"))
        table.add_row(
            name,
            Text(str(queue.workers), style="red" if forsaken else ""),
            count(queue.texts),
            count(queue.tokens),
            age(queue.oldest_seconds),
            count(queue.tokens_per_second),
        )
    _close(table, more, "nothing waits, and nobody serves" if not queues else None)
    return table


def _workers(workers: Sequence[WorkerLine], most: int, width: int) -> Table:
    wide = width >= _WIDE
    told = [name for name, needed in _OF_WORKER.items() if width >= needed]
    if not any(worker.pulse.gpu_memory for worker in workers):
        told = [name for name in told if name != "GPU MEMORY"]
    names = ("WORKER", "MODEL") if wide else ("WORKER",)
    table = _table(*((name, "left") for name in names), *((name, "right") for name in told))
    number, more = _fit(workers, most)
    for worker in workers[:number]:
        style = "red" if worker.seen_seconds > SILENT else "dim" if not worker.texts else ""
        place = [f"{worker.device} on {worker.host}, {worker.pid}"]
        if wide:
            place.append(worker.model.rpartition("/")[2])
        cells = _of_worker(worker)
        table.add_row(*(Text(printable(cell), style=style) for cell in (*place, *(cells[name] for name in told))))
    _close(table, more, "none is alive" if not workers else None)
    return table


def _of_worker(worker: WorkerLine) -> dict[str, str]:
    """Return what is told of a worker, by the column."""
    # What one that is silent told last is not how it is.
    pulse, idle = UNTOLD if worker.seen_seconds > SILENT else worker.pulse, not worker.texts
    gpu = "-"
    if pulse.gpu_memory is not None and pulse.gpu_memory_total is not None:
        gpu = f"{size(pulse.gpu_memory)}/{size(pulse.gpu_memory_total)}"
    return {
        "JOBS": "idle" if idle else str(worker.jobs),
        "TEXTS": "-" if idle else count(worker.texts),
        "TOKENS": "-" if idle else count(worker.tokens),
        "TOKENS/S": "-" if pulse.tokens_per_second is None else count(pulse.tokens_per_second),
        "FILL": _percent(pulse.batch_fill),
        "PADDING": _percent(pulse.padding_share),
        "MEMORY": "-" if pulse.memory is None else size(pulse.memory),
        "GPU MEMORY": gpu,
        "VERSION": worker.version or "older",
        "UP": age(worker.up_seconds),
        "SEEN": age(worker.seen_seconds),
    }


def _jobs(jobs: Sequence[JobStatus], most: int, wide: bool, width: int) -> Table:
    numbers = (("TEXTS", "right"), ("FAILED", "right"), ("TOKENS/S", "right"), ("LEFT", "right"))
    table = _table(("JOB", "left"), ("STATE", "left"), ("DONE", "left"), ("", "right"), *numbers)
    bar = max(6, min(24, width - (90 if wide else 66)))
    number, more = _fit(jobs, most)
    for job in jobs[:number]:
        done = job.succeeded + job.failed
        share = done / job.total if job.total else 0.0
        style = _COLOURS.get(job.state, "")
        final = JobState(job.state) in FINAL_JOB_STATES
        left = "-" if final else age(job.eta_seconds)
        if job.waiting_for and not job.tokens_per_second:
            left = "waits"
        table.add_row(
            Text(f"{job.id if wide else f'…{job.id[-12:]}'} {printable(job.name or '')}".rstrip()),
            Text(job.state, style=style),
            ProgressBar(max(1, job.total), done, bar, complete_style="cyan", finished_style="green"),
            f"{int(100 * share)} %",
            count(job.total),
            Text(count(job.failed), style="red" if job.failed else ""),
            count(job.tokens_per_second) if job.tokens_per_second else "-",
            left,
        )
    _close(table, more, "there are none" if not jobs else None)
    return table


def _close(table: Table, more: str | None, nothing: str | None) -> None:
    for words in (more, nothing):
        if words:
            table.add_row(Text(words, style="dim"))


def size(of: float) -> str:
    """Return a number of bytes in few letters: `612M`, `1.4G`."""
    of /= 2**20
    for unit in ("M", "G"):
        if of < 999.5:
            return f"{of:.1f}{unit}" if unit != "M" and of < 100 else f"{of:.0f}{unit}"
        of /= 1024
    return f"{of:.1f}T"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def age(seconds: float | None) -> str:
    """Return a time in few letters: `7s`, `4m`, `3h12`, `5d`."""
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.0f}s"
    if seconds < 6000:
        return f"{seconds / 60:.0f}m"
    if seconds < 100 * 3600:
        return f"{seconds // 3600:.0f}h{seconds % 3600 // 60:02.0f}"
    return f"{seconds / 86400:.0f}d"
