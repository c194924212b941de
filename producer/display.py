"""What people see of jobs on a terminal: a progress bar, a table, a line; always on stderr or by their wish."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from producer.words import duration, printable, short
from storage.contract.errors import InvalidOption

if TYPE_CHECKING:  # it needs SQLAlchemy, which `--help` should not wait for
    from storage.jobstatus import JobStatus

#: Seconds between two quiet lines where no terminal shows a bar.
_QUIET = 5.0

stderr = Console(stderr=True, highlight=False)

#: Columns of a table that goes to a file or another program: nothing is cut.
_UNLIMITED = 10_000

#: Columns that a list of jobs needs with whole numbers and times.
_WIDE = 110

_COLOURS = {"completed": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


def say(message: str, style: str | None = None) -> None:
    """Tell a person something on stderr, as it is: in one line, however long, so that it can be copied."""
    stderr.print(message, style=style, markup=False, soft_wrap=True)


def show_table(table: Table) -> None:
    """Print a table on stdout; only a terminal's width is respected, and ids are not even cut for that."""
    width = None if _is_terminal() else _UNLIMITED
    Console(highlight=False, width=width).print(table, crop=False)


def check_seen(what: str) -> None:
    """Look whether stdout leads anywhere, before something is made that is printed there alone, once.

    Args:
        what: What would be made.

    Raises:
        InvalidOption: When it is closed.
    """
    if sys.stdout is None:
        raise InvalidOption(
            f"Standard output is closed, and {what} is shown there alone, once: nothing was made.",
            "Let it lead somewhere.",
        )


def one_line(status: JobStatus) -> str:
    """Return a job's progress in one line."""
    parts = [f"{status.state} {status.succeeded + status.failed:,} of {status.total:,}"]
    if status.failed:
        parts.append(f"{status.failed:,} failed")
    if status.tokens_per_second:
        parts.append(f"{status.tokens_per_second:,.0f} tokens/s")
    if status.eta_seconds is not None:
        parts.append(f"{duration(status.eta_seconds)} left")
    if status.waiting_for and not status.tokens_per_second:
        parts.append(f"waits for {printable(status.waiting_for)}")
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
            say(one_line(status))


def status_table(status: JobStatus) -> Table:
    """Return everything that is known of a job as a table."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", min_width=len(status.id))
    rows: dict[str, str | Text] = {
        "job": status.id,
        "state": _coloured(status.state),
        "model": status.model,
        "items": f"{status.total:,}: {status.succeeded:,} succeeded, {status.failed:,} failed, "
        f"{status.cancelled:,} cancelled, {status.pending:,} pending",
        "truncated": f"{status.truncated:,}",
        "tokens": f"{status.tokens:,}",
        "rate": f"{status.tokens_per_second:,.0f} tokens/s" if status.tokens_per_second else "-",
        "left": duration(status.eta_seconds) or "-",
        "created": status.created_at,
        "started": status.started_at or "-",
        "finished": status.finished_at or "-",
        "kept": kept(status),
    }
    if status.name is not None:
        rows["name"] = status.name
    if status.labels:
        rows["labels"] = ", ".join(f"{name}={value}" for name, value in status.labels.items())
    if status.error:
        rows["error"] = f"{status.error['code']}: {status.error['message']}"
    if status.waiting_for:
        rows["waits for"] = status.waiting_for
    for name, value in rows.items():
        table.add_row(name, value if isinstance(value, Text) else Text(printable(value)))
    return table


def kept(status: JobStatus) -> str:
    """Return in words for how long a job is kept, and its texts."""
    if status.kept_until is not None:
        told = f"until {status.kept_until}"
    elif status.keep_days is not None:
        told = f"for {status.keep_days:g} days after its end"
    else:
        told = "until it is deleted"
    if status.texts_kept_until not in (None, status.kept_until):
        told += f"; its texts until {status.texts_kept_until}"
    elif status.keep_texts_days is not None and status.kept_until is None:
        told += f"; its texts for {status.keep_texts_days:g}"
    return told


def is_narrow() -> bool:
    """Whether a table on stdout has less room than whole numbers and times of jobs need beside their ids."""
    return _is_terminal() and Console().width < _WIDE


def jobs_table(statuses: Sequence[JobStatus], narrow: bool = False) -> Table:
    """Return jobs, one a row.

    Args:
        statuses: Of the jobs.
        narrow: Whether numbers are told in few letters, and when a job was made not at all.
    """
    named = any(status.name for status in statuses)
    heads = ["job", "state", "done", "failed"] if narrow else ["job", "state", "done", "failed", "created (UTC)"]
    words = ["name"] if named and narrow else ["name", "model"] if named else ["model"]
    rows: list[list[str | Text]] = []
    for status in statuses:
        done, total, failed = status.total - status.pending, status.total, status.failed
        row: list[str | Text] = [status.id, _coloured(status.state)]
        if narrow:
            row += [f"{short(done)}/{short(total)}", short(failed)]
        else:
            row += [f"{done:,}/{total:,}", f"{failed:,}", status.created_at[5:16].replace("T", " ")]
        model = status.model.rpartition("/")[2] if narrow else status.model
        told = {"name": status.name or "", "model": model}
        # Of a table that is too wide, only what could be wrapped is made narrower; these are cut instead.
        rows.append([*row, *(Text(printable(told[word]), no_wrap=True, overflow="ellipsis") for word in words)])
    table = Table(box=None, pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, no_wrap=True, min_width=max([len(head), *(len(row[place]) for row in rows)]))
    for word in words:
        table.add_column(word)
    for cells in rows:
        table.add_row(*cells)
    return table


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _coloured(state: str) -> Text:
    return Text(state, style=_COLOURS.get(state, "white"))
