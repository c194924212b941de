"""The commands for what is kept: publish, export, import, move, back up, fence, purge, compact."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from producer.arguments import Force, JobId, placed, placed_anew
from producer.display import say
from producer.openstores import opened_stores, refuse_service
from producer.words import counted
from storage.contract.errors import InvalidOption, UnknownJob, WrongState
from storage.contract.keeping import MOST_DAYS
from storage.contract.settings import Settings

if TYPE_CHECKING:
    from producer.hnsw import HnswIndex
    from producer.pgvector import PgvectorTable
    from storage.importing import Imported
    from storage.stores import Stores

app = typer.Typer()

#: MB that an index is built in where nothing is said, which every server for vectors has; and the most that
#: PostgreSQL can be told.
_USUAL_MEMORY, _MOST_MEMORY = 2_048, 2_097_151

_TYPES, _DISTANCES = "vector or halfvec, which takes half the room.", "What nearness means: cosine, l2 or ip."


@app.command()
@placed
def publish(
    job_id: JobId,
    settings: Settings,
    to_pgvector: Annotated[str, typer.Option(help="Table; made when it is missing.", metavar="TABLE")],
    into: Annotated[str | None, typer.Option(help="PostgreSQL it is in. Default: the one the job is in.")] = None,
    kind: Annotated[str, typer.Option("--type", help=_TYPES)] = "vector",
    with_texts: Annotated[bool, typer.Option("--with-texts", help="The texts too, in a column of their own.")] = False,
    index: Annotated[bool, typer.Option("--index", help="Build the index that is else only printed.")] = False,
    index_memory: Annotated[
        int | None,
        typer.Option(min=1, max=_MOST_MEMORY, help="MB for --index. Default: what it needs, at most 2,048."),
    ] = None,
    distance: Annotated[str, typer.Option(help=_DISTANCES)] = "cosine",
    m: Annotated[int, typer.Option(help="HNSW: neighbours of each vector.")] = 16,
    ef_construction: Annotated[int, typer.Option(help="HNSW: candidates looked at for each vector.")] = 64,
) -> None:
    """Copy an ended job's vectors into a pgvector table; doing it again adds what is missing and nothing twice.

    Prints the SQL of the index that is advised.
    """
    refuse_service(settings)
    if index_memory is not None and not index:
        raise InvalidOption("--index-memory is for building the index.", "Give --index too.")
    from producer.client import Client
    from storage.database import Database

    with Client(settings=settings) as client:
        job = client.job(job_id)
        target = client.stores.database if into is None else Database(into)
        if target.is_sqlite:
            raise InvalidOption("pgvector needs PostgreSQL.", "Name one with --into postgresql://user@host/name.")
        try:
            from producer.pgvector import PgvectorTable
            from producer.publishing import publish as run

            table = PgvectorTable(target, to_pgvector, job.width(), kind, with_texts)
            advised = table.index(distance, m, ef_construction)
            done = run(client.stores, job, table, with_texts)
            say(
                f"{counted(done.added, 'vector')} added to {to_pgvector}, {done.there:,} were there before,"
                f" {counted(done.without, 'item')} without."
            )
            if done.changed:
                say(
                    f"NUL characters, which PostgreSQL does not keep, were left out of {counted(done.changed, 'item')}."
                )
            needed = advised.memory(table.count())
            print(f"SET maintenance_work_mem = '{needed}MB';")
            print(f"{advised.sql(concurrently=True)};")
            if index:
                _build(table, advised, needed, index_memory or min(needed, _USUAL_MEMORY))
        finally:
            if into is not None:
                target.close()


def _build(table: PgvectorTable, index: HnswIndex, needed: int, memory: int) -> None:
    if memory < needed:
        say(
            f"The index is built in {memory:,} MB of the server's memory and needs {needed:,}: the rest of it takes far"
            " longer. Where the server has them: --index-memory."
        )
    built = table.build(index, memory)
    say("The index is built." if built else "There is such an index: nothing was built.")


@app.command()
@placed
def export(
    settings: Settings,
    output: Annotated[Path, typer.Option("-o", "--output", help="Archive to write; - for stdout.")],
    job_ids: Annotated[list[str] | None, typer.Argument(metavar="JOB...", help="Some jobs.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All jobs, with keys, files, batches and webhooks.")
    ] = False,
    force: Force = False,
) -> None:
    """Write jobs, with all that became of them, into an archive that `embedmill import` reads."""
    if everything == bool(job_ids):
        raise InvalidOption("What is to be exported?", "Name some jobs, or give --all.")
    with opened_stores(settings) as stores:
        from producer.output import opened_output, standard_output
        from storage.archives import write
        from storage.contract.ids import checked_job_id
        from storage.exporting import Exporter

        os.umask(0o077)  # texts are in it, and with --all the secrets of webhooks
        exporter = Exporter(stores.database)
        sheets = exporter.everything() if everything else exporter.jobs([checked_job_id(one) for one in job_ids or ()])
        with opened_output(standard_output() if str(output) == "-" else output, force) as sink:
            write(sheets, sink)
        size = "" if str(output) == "-" else f", {output.stat().st_size:,} bytes"
        say(f"{counted(exporter.read, 'job')} with {counted(exporter.items, 'item')} in {output}{size}.")
        _tell_unsealed(exporter.unsealed)


@app.command("import")
@placed_anew
def import_archive(
    settings: Settings, source: Annotated[Path, typer.Argument(metavar="FILE|-", help="What `export` wrote.")]
) -> None:
    """Take the jobs of an archive into the database; done again it changes nothing, cut off it goes on."""
    from producer.sources import opened

    # Before a database is made for it.
    with opened(source) as stream, opened_stores(settings) as stores:
        from storage.archives import read
        from storage.importing import Importer

        _tell(Importer(stores.database, renewing=True).take(read(stream)))


@app.command()
def move(
    source: Annotated[str, typer.Option("--from", help="Database that the jobs are in.")],
    target: Annotated[str, typer.Option("--to", help="Migrated database that they go to.")],
) -> None:
    """Copy everything from one database to another, such as from SQLite to PostgreSQL; the first stays as it is.

    Stop what works on the first: what is open is worked on in the second from then on. Cut off it goes on.
    """
    from storage.database import Database
    from storage.exporting import Exporter
    from storage.importing import Importer

    here, there = Database(source), Database(target)
    try:
        here.check_schema()
        there.check_schema()
        exporter = Exporter(here)
        _tell(Importer(there).take(exporter.everything()))
        _tell_unsealed(exporter.unsealed)
    finally:
        here.close()
        there.close()


@app.command()
@placed
def backup(
    settings: Settings,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    force: Force = False,
) -> None:
    """Copy the SQLite database as it is now into one file, while others work; restored by putting it in its place."""
    if str(output) == "-":
        raise InvalidOption("A backup is a file, and cannot be streamed.", "Name one, or stream `embedmill export`.")
    with opened_stores(settings) as stores:
        from storage.backups import back_up

        say(f"{back_up(stores.database, output, force):,} bytes in {output}, checked.")


@app.command()
@placed
def fence(settings: Settings) -> None:
    """After a backup was restored: keep those who worked before from changing what they no longer know."""
    with opened_stores(settings) as stores:
        from storage import backups

        say(f"{counted(backups.fence(stores.database), 'chunk')} fenced.")


@app.command()
@placed
def purge(
    settings: Settings,
    older_than: Annotated[float, typer.Option(min=0, help="Days since their end, or parts of days.", metavar="DAYS")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the ids of the jobs that would go.")] = False,
) -> None:
    """Delete all jobs that ended more than so many days ago, whatever was said of their time; not those of batches."""
    if not older_than <= MOST_DAYS:
        raise InvalidOption("--older-than is no number of days.", f"Give days, from 0 to {MOST_DAYS:,}.")
    with opened_stores(settings) as stores:
        jobs = 0
        for job_id in _ended(stores, older_than):
            if dry_run:
                print(job_id)
            else:
                try:
                    stores.purges.delete(job_id)
                    # The rows of a large job too: who makes room may have no reconciler running.
                    stores.purges.purge(job_id)
                except (UnknownJob, WrongState):  # somebody else deleted it, or sent it round again
                    continue
            jobs += 1
        say(f"{counted(jobs, 'job')} {'would go' if dry_run else 'deleted'}.")


def _ended(stores: Stores, days: float) -> Iterator[str]:
    found = stores.purges.ended(days)
    while found:
        yield from found
        found = stores.purges.ended(days, found[-1])


@app.command()
@placed
def compact(settings: Settings) -> None:
    """Write the SQLite database anew without free room; whoever writes to it waits, and the disk needs room for two."""
    with opened_stores(settings) as stores:
        from storage import backups

        before, after = backups.compact(stores.database)
        say(f"{after:,} bytes, before {before:,}.")


def _tell(done: Imported) -> None:
    say(
        f"{counted(done.jobs, 'job')} with {counted(done.items, 'item')} imported,"
        f" {counted(done.there, 'job')} were there before."
    )
    if done.renewed:
        say(f"Kept as long again, because their time was over: {counted(done.renewed, 'job')}.")


def _tell_unsealed(jobs: int) -> None:
    if jobs:
        say(f"{counted(jobs, 'job')} left out that are still being submitted: seal them, and do it again.")
