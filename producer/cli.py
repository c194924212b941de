"""The asking commands: submit, embed, status, wait, jobs, results, cancel, retry, delete."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from producer.advice import command
from producer.arguments import (
    AsJson,
    Encoding,
    Force,
    JobId,
    Output,
    OutputFormat,
    placed,
    placed_anew,
    with_filter,
    with_input,
    with_job_options,
)
from producer.display import is_narrow, jobs_table, one_line, say, show_table, status_table, watching
from producer.jobwords import tell_end, tell_id, tell_unwritten
from producer.words import counted
from storage.contract.errors import InvalidOption, WaitTimeout, WrongState
from storage.contract.options import JobOptions
from storage.contract.settings import Settings
from storage.contract.states import JobState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producer.anyclient import AnyClient
    from producer.anyjob import AnyJob
    from producer.records import Record
    from storage.jobstatus import JobStatus

app = typer.Typer(help="Submit, poll, fetch.")

#: Exit code of a job that ended with failed items or not completed, and of a wait that timed out.
NOT_ALL_DONE = 1

_WATCH = 1.0


@app.command()
@placed_anew
@with_job_options
@with_input
def submit(
    given: dict[str, Any],
    options: JobOptions,
    settings: Settings,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job's end.")] = False,
    timeout: Annotated[float | None, typer.Option(help="With --wait: wait at most so many seconds.")] = None,
) -> None:
    """Submit texts and print the job's id alone."""
    if timeout is not None and not wait:
        raise InvalidOption("--timeout says how long to wait, and nothing is waited for.", "Give --wait too.")
    with _client(settings) as client:
        job = _submit(client, given, options)
        tell_id(job)
        if wait:
            _finish(_wait(job, timeout))


@app.command()
@placed_anew
@with_job_options
@with_input
def embed(
    given: dict[str, Any],
    options: JobOptions,
    settings: Settings,
    output: Output,
    output_format: OutputFormat = None,
    encoding: Encoding = "float",
    force: Force = False,
) -> None:
    """Submit, wait and write the results, in one."""
    from producer.exports import check

    target = _target(output)
    check(target, output_format, force=force, encoding=encoding, made_here=settings.url is None)
    with _client(settings) as client:
        job = _submit(client, given, options)
        say(f"job {job.id}")
        status = _wait(job, None)
        if status.state == JobState.COMPLETED:
            _write(job, settings, target, output_format, encoding, force, only_failed=False)
        else:
            tell_unwritten(status, output, output_format)
        _finish(status)


@app.command()
@placed
def status(
    job_id: JobId,
    settings: Settings,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second until the job's end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show where a job stands."""
    with _client(settings) as client:
        job = client.job(job_id)
        while True:
            now = job.status()
            if as_json:
                print(json.dumps(now.to_dict()), flush=True)
            else:
                show_table(status_table(now))
            if not watch or now.is_final:
                return
            time.sleep(_WATCH)


@app.command()
@placed
def wait(
    job_id: JobId,
    settings: Settings,
    timeout: Annotated[float | None, typer.Option(help="Wait at most so many seconds.")] = None,
) -> None:
    """Wait for a job's end; exits with 1 when not all of it was done."""
    with _client(settings) as client:
        _finish(_wait(client.job(job_id), timeout))


@app.command()
@placed
@with_filter
def jobs(
    wanted: dict[str, Any],
    settings: Settings,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    before: Annotated[str | None, typer.Option(help="Only jobs older than this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the newest jobs; with --json one object a line."""
    with _client(settings) as client:
        found = client.jobs(limit, before, **wanted)
    if as_json:
        for one in found:
            print(json.dumps(one.to_dict()))
    elif found:
        show_table(jobs_table(found, is_narrow()))
    else:
        say("There are no such jobs." if before or any(wanted.values()) else "There are no jobs.")


@app.command()
@placed
def results(
    job_id: JobId,
    settings: Settings,
    output: Output,
    output_format: OutputFormat = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed and cancelled items.")] = False,
    encoding: Encoding = "float",
    force: Force = False,
) -> None:
    """Write a job's results to a file, in submission order."""
    with _client(settings) as client:
        job = client.job(job_id)
        _write(job, settings, _target(output), output_format, encoding, force, only_failed=failed)


@app.command()
@placed
def cancel(job_id: JobId, settings: Settings) -> None:
    """Cancel a job; vectors that are there stay."""
    with _client(settings) as client:
        job = client.job(job_id)
        changed = job.cancel()
        say(one_line(job.status()) if changed else "It was cancelled before.")


@app.command()
@placed
def retry(job_id: JobId, settings: Settings) -> None:
    """Try a completed job's failed items again, keeping all vectors."""
    with _client(settings) as client:
        job = client.job(job_id)
        items = job.retry_failed()
        say(f"Trying {counted(items, 'item')} again." if items else "No failed item can be tried again.")
        _notify(job)


@app.command()
@placed
def delete(job_id: JobId, settings: Settings) -> None:
    """Delete a job with its texts and results."""
    with _client(settings) as client:
        client.job(job_id).delete()
        say("Deleted.")


def _client(settings: Settings) -> AnyClient:
    from producer.anyclient import AnyClient  # NumPy costs time too, and `--help` needs none of it

    return AnyClient(settings=settings)


def _submit(client: AnyClient, given: dict[str, Any], options: JobOptions) -> AnyJob:
    from producer.readers import read

    given = dict(given)
    fields = {name: given.pop(name) for name in ("text_field", "delimiter")} | {"id_field": given["id_field"]}
    records = _Read(read(given.pop("source"), format=given.pop("input_format"), **fields))
    try:
        job = client.submit_records(records, with_ids=given.pop("id_field") is not None, options=options, **given)
    except KeyboardInterrupt:
        # Behind the last text there is a moment in which the job may have been accepted already.
        told = f"`{command('jobs')}` tells whether it was accepted." if records.ended else "Nothing was accepted."
        say(told)
        raise
    _notify(job)
    return job


class _Read:
    """Records on their way into a submission, and whether that was all."""

    def __init__(self, records: Iterator[Record]) -> None:
        self._records = records
        self.ended = False

    def __iter__(self) -> Iterator[Record]:
        yield from self._records
        self.ended = True


def _notify(job: AnyJob) -> None:
    if job.notice:
        say(job.notice, style="yellow")


def _wait(job: AnyJob, timeout: float | None) -> JobStatus:
    try:
        with watching() as show:
            return job.wait(timeout, show)
    except WaitTimeout as error:
        say(f"{error.message} Come back with: {command('wait', job.id)}")
        raise typer.Exit(NOT_ALL_DONE) from error
    except KeyboardInterrupt:
        say(f"The job goes on. Come back with: {command('wait', job.id)}")
        raise


def _finish(status: JobStatus) -> None:
    tell_end(status)
    if status.state != JobState.COMPLETED or status.failed:
        raise typer.Exit(NOT_ALL_DONE)


def _target(output: Path) -> Path | BinaryIO:
    from producer.output import standard_output

    return standard_output() if str(output) == "-" else output


def _write(
    job: AnyJob,
    settings: Settings,
    target: Path | BinaryIO,
    output_format: str | None,
    encoding: str,
    force: bool,
    only_failed: bool,
) -> None:
    from producer.exports import check

    given: dict[str, Any] = {"force": force, "only_failed": only_failed, "encoding": encoding}
    chosen = check(target, output_format, made_here=settings.url is None, **given)
    status = job.status()
    if not status.is_final:
        raise WrongState(f"Job {job.id} is {status.state}.", f"Wait for it first: {command('wait', job.id)}")
    written = job.save(target, chosen, **given)
    if isinstance(target, Path):
        say(f"{counted(written, 'item')} in {target}")
