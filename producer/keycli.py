"""The commands for API keys: create, list, revoke."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from producer.advice import command
from producer.arguments import AsJson, placed, placed_anew
from producer.display import check_seen, say, show_table
from producer.openstores import opened_stores
from storage.contract.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from storage.keys import KeyRecord

app = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True)


@app.command()
@placed_anew
def create(
    settings: Settings,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What a person calls it.")],
    scopes: Annotated[str, typer.Option(help="Some of read, write, embed, admin, with commas.")] = "read,write,embed",
    expires_in: Annotated[
        float | None, typer.Option(help="Seconds after which it ends by itself. Default: never.")
    ] = None,
    max_texts: Annotated[int | None, typer.Option(help="Most texts that are kept for it.")] = None,
    max_jobs: Annotated[int | None, typer.Option(help="Most jobs of it that have not ended.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Most tokens a minute, on the average.")] = None,
    max_stored_bytes: Annotated[int | None, typer.Option(help="Most bytes of files that are kept for it.")] = None,
    keep_days: Annotated[
        float | None, typer.Option(help="Days that its ended jobs are kept, at most and by default.")
    ] = None,
    keep_texts_days: Annotated[float | None, typer.Option(help="The same for their texts.")] = None,
) -> None:
    """Make a key and print it alone, this once: nobody can tell it again."""
    from storage.contract.keeping import Keeping
    from storage.quotas import Quota

    check_seen("the key")
    quota = Quota(max_texts, max_jobs, tokens_per_minute, max_stored_bytes)
    keeping = Keeping(keep_days, keep_texts_days)
    with opened_stores(settings) as stores:
        record, key = stores.keys.create(name, scopes.replace(",", " ").split(), expires_in, quota, keeping)
        print(key, flush=True)
        say(f"Keep it: it cannot be shown again. Revoke it with: {command('keys', 'revoke', record.id)}")


@app.command("list")
@placed
def list_keys(settings: Settings, as_json: AsJson = False) -> None:
    """List all keys, without their secrets; with --json one object a line."""
    with opened_stores(settings) as stores:
        found = stores.keys.all()
    if as_json:
        for record in found:
            print(json.dumps(record.to_dict()))
    elif found:
        show_table(_table(found))
    else:
        say(f"There are no keys. Make one with: {command('keys', 'create', 'NAME')}")


@app.command()
@placed
def revoke(settings: Settings, key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id.")]) -> None:
    """End a key for ever; it is refused everywhere within 5 s, and its jobs go on."""
    with opened_stores(settings) as stores:
        say("Revoked." if stores.keys.revoke(key_id) else "It was revoked before.")


def _kept(record: KeyRecord) -> Iterator[str]:
    """Yield how long a key's jobs are kept, where it says so, in words."""
    if record.keeping.days is not None:
        yield f"{record.keeping.days:g} days"
    if record.keeping.texts_days is not None:
        yield f"{record.keeping.texts_days:g} days as texts"


def _table(records: list[KeyRecord]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("id", "name", "scopes", "state", "last used (UTC)", "limits"):
        # On a narrow terminal the others are broken into lines, and nothing is cut.
        table.add_column(name, no_wrap=name in ("id", "state", "last used (UTC)"), overflow="fold")
    for record in records:
        told = record.to_dict()
        state = "good" if record.is_good else "revoked" if record.revoked_at is not None else "expired"
        limits = [f"{limit:,} {what}" for what, limit in record.quota.to_dict().items() if limit is not None]
        limits += [f"kept {kept}" for kept in _kept(record)]
        used = (told["last_used_at"] or "never")[:16].replace("T", " ")
        words = (record.id, record.name, " ".join(told["scopes"]), state, used, ", ".join(limits).replace("_", " "))
        table.add_row(*(Text(word) for word in words))
    return table
