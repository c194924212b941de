"""Shows a text's tokens as a table for people."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.engine.tokenizing import Tokens

#: Rows of padding shown; the rest is only counted.
_PADDING_SHOWN = 3

#: Columns of a table that goes to a file or another program: nothing is cut.
_UNLIMITED = 10_000

#: Pieces shown of what is cut.
_CUT_SHOWN = 40


def print_tokens(tokens: Tokens) -> None:
    """Print pieces, ids and mask on stdout, and what would be cut."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _UNLIMITED)
    table = Table("place", "piece", "id", "mask", box=None, pad_edge=False)
    read = sum(tokens.mask)
    for place, (piece, id_, mask) in enumerate(zip(tokens.pieces, tokens.ids, tokens.mask, strict=True)):
        if place < read + _PADDING_SHOWN:
            table.add_row(str(place), Text(piece), str(id_), str(mask), style=None if mask else "dim")
    console.print(table, crop=False)
    padded = len(tokens.pieces) - read
    if padded > _PADDING_SHOWN:
        console.print(f"... and {padded - _PADDING_SHOWN:,} more of padding", style="dim")
    console.print(f"{tokens.length:,} token{'' if tokens.length == 1 else 's'}, {read:,} read", end="")
    console.print(f", [yellow]{tokens.length - read:,} cut[/]" if tokens.truncated else "")
    if tokens.cut:
        shown = " ".join(tokens.cut[:_CUT_SHOWN]) + (" ..." if len(tokens.cut) > _CUT_SHOWN else "")
        console.print(f"cut: {shown}", markup=False, soft_wrap=True)
