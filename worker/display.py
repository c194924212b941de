"""Shows a text's tokens as a table for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from worker.engine.tokenizing import Tokens

#: Rows of padding shown; the rest is only counted.
_PADDING_SHOWN = 3


def print_tokens(tokens: Tokens) -> None:
    """Print pieces, ids and mask on stdout, and what would be cut."""
    console = Console(highlight=False)
    table = Table("place", "piece", "id", "mask", box=None, padding=(0, 2, 0, 0))
    read = sum(tokens.mask)
    for place, (piece, id_, mask) in enumerate(zip(tokens.pieces, tokens.ids, tokens.mask, strict=True)):
        if place < read + _PADDING_SHOWN:
            table.add_row(str(place), piece, str(id_), str(mask), style=None if mask else "dim")
    console.print(table)
    padded = len(tokens.pieces) - read
    if padded > _PADDING_SHOWN:
        console.print(f"... and {padded - _PADDING_SHOWN:,} more of padding", style="dim")
    console.print(f"{tokens.length:,} tokens, {read:,} read", end="")
    console.print(f", [yellow]{tokens.length - read:,} cut[/]" if tokens.truncated else "")
    if tokens.cut:
        console.print("cut: " + " ".join(tokens.cut[:40]) + (" ..." if len(tokens.cut) > 40 else ""), markup=False)
