"""The command that shows everything as it goes: `top`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from producer.arguments import placed
from storage.contract.settings import Settings

if TYPE_CHECKING:
    from producer.overview import Overviews

app = typer.Typer(help="Watch.")

#: Jobs that are asked for where no terminal says how many fit.
_JOBS = 20


@app.command()
@placed
def top(
    settings: Settings,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it once as JSON for programs.")] = False,
) -> None:
    """Show queues, workers and jobs as they go: q ends it, p holds it still, s sorts jobs otherwise."""
    from rich.console import Console

    from producer.toplive import show
    from producer.topview import still

    overviews = _overviews(settings)
    console = Console(highlight=False)
    try:
        if as_json:
            print(json.dumps(overviews.look(_JOBS).to_dict()))
        elif once or not console.is_terminal:
            console.print(still(overviews.look(_JOBS), overviews.where, console.width))
        else:
            show(overviews, console, interval)
    finally:
        overviews.close()


def _overviews(settings: Settings) -> Overviews:
    if settings.url is not None:
        from producer.remote.overview import HttpOverviews

        return HttpOverviews(settings)
    from producer.storedoverview import StoredOverviews

    return StoredOverviews(settings)
