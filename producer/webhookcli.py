"""The command for webhooks: `webhooks secret`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

group = typer.Typer(help="Webhooks that tell the ends of jobs.", no_args_is_help=True)


@group.callback()
def _webhooks() -> None:
    """Webhooks that tell the ends of jobs."""


@group.command()
def secret(
    key: Annotated[str, typer.Option(help="Id of the API key whose jobs are meant. Default: jobs without a key.")] = "",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the embedded database and Redis.")] = None,
    database_url: Annotated[str | None, typer.Option(help="Database; default: the embedded one.")] = None,
) -> None:
    """Make a new secret that webhooks are signed with, and print it alone, once; the old one is good for a day yet."""
    from storage.contract.settings import Settings
    from storage.stores import Stores

    stores = Stores.open(Settings.load(data_dir=data_dir, database_url=database_url))
    if key:
        # Of a key that is not there, nobody would ever sign with it.
        stores.keys.get(key)
    print(stores.webhooks.rotate(key))
    print("Keep it: it is not shown again. Receivers verify by it.", file=sys.stderr)
    stores.database.close()
