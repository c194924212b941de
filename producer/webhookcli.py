"""The command for webhooks: `webhooks secret`."""

from __future__ import annotations

from typing import Annotated

import typer

from producer.arguments import placed_anew
from producer.display import check_seen, say
from producer.openstores import opened_stores
from storage.contract.settings import Settings

group = typer.Typer(help="Webhooks that tell the ends of jobs.", no_args_is_help=True)


@group.callback()
def _webhooks() -> None:
    """Webhooks that tell the ends of jobs."""


@group.command()
@placed_anew
def secret(
    settings: Settings,
    key: Annotated[str, typer.Option(help="Id of the API key whose jobs are meant. Default: jobs without a key.")] = "",
) -> None:
    """Make a new secret that webhooks are signed with, and print it alone, once; the old one is good for a day yet."""
    check_seen("the secret")
    with opened_stores(settings) as stores:
        if key:
            # Of a key that is not there, nobody would ever sign with it.
            stores.keys.get(key)
        print(stores.webhooks.rotate(key), flush=True)
        say("Keep it: it is not shown again. Receivers verify by it.")
