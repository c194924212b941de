"""What the command line says of a job: its id, how it ended, and that nothing was written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from producer.advice import command
from producer.display import say
from producer.words import counted
from storage.contract.states import JobState

if TYPE_CHECKING:
    from producer.anyjob import AnyJob
    from storage.jobstatus import JobStatus


def tell_id(job: AnyJob) -> None:
    """Print an accepted job's id alone on stdout; where that cannot be, it must not be lost."""
    try:
        print(job.id, flush=True)
    except OSError:
        say(f"job {job.id}")
        raise
    if sys.stdout is None:
        say(f"job {job.id}")


def tell_end(status: JobStatus) -> None:
    """Say what is to be known of a job that has ended."""
    if status.truncated:
        were = "was" if status.truncated == 1 else "were"
        say(f"{counted(status.truncated, 'text')} {were} cut at the model's or your limit.")
    if status.failed:
        results = command("results", status.id, "--failed", "-o", "failed.jsonl")
        say(f"{counted(status.failed, 'item')} failed: {results}")
    if status.error:
        say(f"{status.error['code']}: {status.error['message']}", style="red")


def tell_unwritten(status: JobStatus, output: Path, output_format: str | None) -> None:
    """Say that there is no file, and how to get what a job had done before it was ended."""
    say(f"The job has ended as {status.state}: nothing was written.")
    if status.succeeded and status.state != JobState.FAILED:
        form = () if output_format is None else ("--output-format", output_format)
        results = command("results", status.id, "-o", output, *form)
        say(f"{counted(status.succeeded, 'item')} {'was' if status.succeeded == 1 else 'were'} done: {results}")
