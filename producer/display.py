"""What people see of jobs on a terminal: a progress bar, a table, a line; always on stderr or by their wish."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from storage.statuses import JobStatus

#: Seconds between two quiet lines where no terminal shows a bar.
_QUIET = 5.0

stderr = Console(stderr=True, highlight=False)
stdout = Console(highlight=False)

_COLOURS = {"completed": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


def seconds(value: float | None) -> str:
    """Return a time as a person says it."""
    if value is None:
        return "-"
    if value < 60:
        return f"{value:.0f} s"
    if value < 3600:
        return f"{value // 60:.0f} min {value % 60:.0f} s"
    return f"{value // 3600:.0f} h {value % 3600 // 60:.0f} min"


def one_line(status: JobStatus) -> str:
    """Return a job's progress in one line."""
    parts = [f"{status.state} {status.succeeded + status.failed:,} of {status.total:,}"]
    if status.failed:
        parts.append(f"{status.failed:,} failed")
    if status.tokens_per_second:
        parts.append(f"{status.tokens_per_second:,.0f} tokens/s")
    if status.eta_seconds is not None:
        parts.append(f"{seconds(status.eta_seconds)} left")
    if status.waiting_for and not status.tokens_per_second:
        parts.append(f"waits for {status.waiting_for}")
    return ", ".join(parts)


@contextmanager
def watching(enabled: bool = True) -> Iterator[Callable[[JobStatus], None]]:
    """Give a function that shows each status it is called with: a bar on a terminal, now and then a line elsewhere."""
    if not enabled:
        yield lambda status: None
    elif not stderr.is_terminal:
        yield _QuietLines()
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[told]}"),
        )
        with Progress(*columns, console=stderr) as progress:
            task = progress.add_task("starting", total=None, told="")

            def show(status: JobStatus) -> None:
                done = status.total - status.pending
                told = one_line(status).partition(" ")[2]
                progress.update(task, description=status.state, total=status.total, completed=done, told=told)

            yield show


class _QuietLines:
    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, status: JobStatus) -> None:
        if status.is_final or time.monotonic() - self._last > _QUIET:
            self._last = time.monotonic()
            stderr.print(one_line(status), soft_wrap=True)


def status_table(status: JobStatus) -> Table:
    """Return everything that is known of a job as a table."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rows: dict[str, str] = {
        "job": status.id,
        "state": f"[{_COLOURS.get(status.state, 'white')}]{status.state}[/]",
        "model": status.model,
        "items": f"{status.total:,}: {status.succeeded:,} succeeded, {status.failed:,} failed, "
        f"{status.cancelled:,} cancelled, {status.pending:,} pending",
        "truncated": f"{status.truncated:,}",
        "tokens": f"{status.tokens:,}",
        "rate": f"{status.tokens_per_second:,.0f} tokens/s" if status.tokens_per_second else "-",
        "left": seconds(status.eta_seconds),
        "created": status.created_at,
        "started": status.started_at or "-",
        "finished": status.finished_at or "-",
    }
    if status.error:
        rows["error"] = f"{status.error['code']}: {status.error['message']}"
    if status.waiting_for:
        rows["waits for"] = status.waiting_for
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def jobs_table(statuses: Sequence[JobStatus]) -> Table:
    """Return jobs, one a row."""
    table = Table("job", "state", "items", "failed", "pending", "model", "created", box=None, padding=(0, 2, 0, 0))
    for status in statuses:
        state = f"[{_COLOURS.get(status.state, 'white')}]{status.state}[/]"
        counts = (f"{status.total:,}", f"{status.failed:,}", f"{status.pending:,}")
        table.add_row(status.id, state, *counts, status.model, status.created_at[:19])
    return table
