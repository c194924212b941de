"""The command that looks whether all is well: `doctor`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look whether all is well.")

#: Columns of what goes to a file or another program: nothing is broken into lines.
_UNLIMITED = 10_000

#: What `--as` takes.
_SIDES = "worker|producer"


@app.command()
def doctor(
    url: Annotated[str | None, typer.Option(help="Look at this HTTP service, as its client sees it.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Its key; better: EMBEDMILL_API_KEY.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the embedded database and Redis.")] = None,
    database_url: Annotated[str | None, typer.Option(help="Database; default: the embedded one.")] = None,
    redis_url: Annotated[str | None, typer.Option(help="Redis; default: the embedded one.")] = None,
    model: Annotated[str | None, typer.Option(help="Model that a worker would serve.", show_default=False)] = None,
    devices: Annotated[str | None, typer.Option(help="Devices that it would take.", show_default=False)] = None,
    role: Annotated[
        str | None, typer.Option("--as", help="Whose rights in Redis to look at. Default: found out.", metavar=_SIDES)
    ] = None,
    limit: Annotated[float, typer.Option(min=0.1, help="Seconds that one check may take.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Check settings, machine, model, Redis, database and queues, and say what to do about what is wrong.

    Exits with 0 when all is well or there are only warnings, 1 when something is wrong, 4 when a server cannot be
    reached.
    """
    from rich.console import Console

    from embedmill.doctor import Printer, areas, exit_code, to_dict
    from storage.checkups.check import examine
    from storage.checkups.redisrights import SENT
    from storage.contract.errors import InvalidOption

    place = {"data_dir": data_dir, "database_url": database_url, "redis_url": redis_url}
    given = [name for name, value in place.items() if value is not None]
    if url is not None and given:
        other = given[0].replace("_", "-")
        raise InvalidOption(f"--url and --{other} were both given.", "Name a service, or a database.")
    if role is not None and role not in SENT:
        raise InvalidOption(f"--as {role} is nobody.", f"Say --as {_SIDES}.")
    since, found = time.monotonic(), []
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    printer = Printer(Console(highlight=False, width=None if is_terminal else _UNLIMITED))
    flags = {**place, "url": url, "api_key": api_key, "model": model, "devices": devices}
    for finding in examine(areas(flags, role), limit):
        found.append(finding)
        if not as_json:
            printer.show(finding)
    if as_json:
        print(json.dumps(to_dict(found, since)))
    else:
        printer.conclude(found)
    raise typer.Exit(exit_code(found))
