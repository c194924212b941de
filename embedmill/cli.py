"""The `embedmill` command: joins the asking, the embedding and the operating commands; turns errors into exit codes."""

from __future__ import annotations

import errno
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from embedmill.siblings import find_clash
from embedmill.streams import make_writable

#: Exit codes. 0: done. 1: the job ended with failed items or not completed, or `wait` timed out.
BAD_USAGE, NO_SUCH_JOB, SERVER_AWAY, INTERRUPTED = 2, 3, 4, 130

DataDir = Annotated[Path | None, typer.Option(help="Folder of the embedded database and Redis.")]
DatabaseUrl = Annotated[str | None, typer.Option(help="Database; default: the embedded one.")]
RedisUrl = Annotated[str | None, typer.Option(help="Redis; default: the embedded one.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on. Default: this machine alone.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port of page and API; 0: a free one. Default: 8000.")]
Auth = Annotated[str | None, typer.Option(help="none, or keys: every request needs an API key.")]
OpenToAll = Annotated[
    bool | None, typer.Option("--open-to-all", help="With --auth none: listen beyond this machine without keys.")
]


def main() -> None:
    """Run the command line."""
    clash = find_clash()
    if clash is not None:
        print(f"embedmill: {clash}", file=sys.stderr)
        sys.exit(BAD_USAGE)
    make_writable()
    from storage import logs
    from storage.contract.errors import EmbedmillError

    try:
        _app()(prog_name="embedmill")
    except EmbedmillError as error:
        logs.say(f"embedmill: {_told(error)}", logging.ERROR)
        sys.exit(_exit_code(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print("embedmill: There is no room for the output. Make room and try again.", file=sys.stderr)
        # What could not be written must not be tried again at the end.
        os._exit(SERVER_AWAY)


def _app() -> typer.Typer:
    import embedmill.doctorcli
    import producer.cli
    import producer.datacli
    import producer.keycli
    import producer.servecli
    import producer.topcli
    import producer.webhookcli
    import worker.cli

    app = typer.Typer(
        help="Asynchronous bulk embedding on your own machines.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    groups = (producer.cli.app, producer.datacli.app, worker.cli.app, producer.servecli.app, _operating)
    for group in (*groups, embedmill.doctorcli.app, producer.topcli.app):
        app.registered_commands += group.registered_commands
    app.add_typer(producer.keycli.app, name="keys")
    app.add_typer(producer.webhookcli.group, name="webhooks")
    app.callback()(_root)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"embedmill {version('embedmill')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Asynchronous bulk embedding on your own machines."""


_operating = typer.Typer()


@_operating.command()
def up(
    model: Annotated[str | None, typer.Option(help="Hub name or folder.", show_default=False)] = None,
    revision: Annotated[str | None, typer.Option(help="Commit hash of a hub model.")] = None,
    host: Host = None,
    port: Port = None,
    auth: Auth = None,
    open_to_all: OpenToAll = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
    dtype: Annotated[str | None, typer.Option(help="auto (measured), float32, bfloat16, float16 or int8.")] = None,
    backend: Annotated[str | None, typer.Option(help="torch or openvino. Default: torch, but for int8.")] = None,
    devices: Annotated[str | None, typer.Option(help="auto, gpus, all, cpu, or a list: cuda:0,cuda:1.")] = None,
) -> None:
    """Run everything on this machine until Ctrl-C: Redis, database, workers, the page and the API."""
    from embedmill.local import run_stack
    from producer.api.settings import ApiSettings
    from producer.servecli import is_installed
    from storage import logs
    from worker.cli import check_backend, check_installed, check_model
    from worker.devices import choose_slots, find_gpus
    from worker.settings import WorkerSettings

    check_installed()
    place = {"data_dir": data_dir, "database_url": database_url, "redis_url": redis_url, "model": model}
    service = ApiSettings.load(**place, host=host, port=port, auth=auth, open_to_all=open_to_all)
    service.check_exposure()
    settings = WorkerSettings.load(
        **place,
        revision=revision,
        health_host=service.host,
        health_port=service.port,
        dtype=dtype,
        backend=backend,
        devices=devices,
    )
    logs.configure(settings.log_level, "up", settings.log_format)
    slots = choose_slots(settings.devices, find_gpus())
    check_backend(settings, slots)
    check_model(settings.model, settings.revision)
    with_page = is_installed()

    def started(address: str) -> None:
        logs.say(f"Embedmill is starting; {address}/readyz tells when.")
        if with_page:
            logs.say(f"Page and API: {address}")
        logs.say(f"Data: {settings.data_dir}. {_kept(service.keeping.days)} Ctrl-C stops everything.")

    run_stack(settings, slots, service if with_page else None, started)


def _kept(days: float | None) -> str:
    """Say for how long jobs are kept, before any goes."""
    told = "until they are deleted" if days is None else f"for {days:g} days"
    return f"Ended jobs are kept {told} (EMBEDMILL_KEEP_DAYS)."


@_operating.command()
def migrate(
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    api_role: Annotated[str | None, typer.Option(help="PostgreSQL's role of the service, which gets rights.")] = None,
    worker_role: Annotated[str | None, typer.Option(help="That of workers and reconcilers.")] = None,
) -> None:
    """Bring the database's schema to what this program needs; safe to run again, and beside others."""
    from storage import logs
    from storage.database import placed_database
    from storage.migrations import migrate as run
    from storage.migrations.settings import MigrationSettings
    from storage.rights import grant

    place = {"data_dir": data_dir, "database_url": database_url}
    settings = MigrationSettings.load(**place, api_role=api_role, worker_role=worker_role)
    logs.configure(settings.log_level, "migrate", settings.log_format)
    database = placed_database(settings)
    before = run(database)
    logs.say(f"The schema is at {database.schema_version()} (it was at {before or 'none'}).")
    if settings.roles:
        grant(database, settings.roles)
        told = " and ".join(f"{role} what the {side} needs" for side, role in settings.roles.items())
        logs.say(f"It lets {told}.")


def _told(error: Exception) -> str:
    from storage.contract.errors import InvalidItems

    if not isinstance(error, InvalidItems):
        return str(error)
    lines = [f"{error.count:,} invalid item{'s' if error.count != 1 else ''}, nothing was accepted:"]
    lines += [f"  {problem}" for problem in error.problems]
    if error.count > len(error.problems):
        lines.append(f"  ... and {error.count - len(error.problems):,} more")
    return "\n".join([*lines, error.remedy or ""])


def _exit_code(error: Exception) -> int:
    from storage.contract.errors import AddressInUse, AlreadyRunning, JobFailed, ServerError, UnknownJob, WaitTimeout

    if isinstance(error, UnknownJob):
        return NO_SUCH_JOB
    if isinstance(error, JobFailed | WaitTimeout):
        return 1
    if isinstance(error, AddressInUse | AlreadyRunning):
        return BAD_USAGE
    return SERVER_AWAY if isinstance(error, ServerError) else BAD_USAGE
