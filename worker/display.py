"""Shows a text's tokens, and what came of measuring a model, as tables for people."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from storage.contract.tokens import Tokens

#: Rows of padding shown; the rest is only counted.
_PADDING_SHOWN = 3

#: Columns of a table that goes to a file or another program: nothing is cut.
_UNLIMITED = 10_000

#: Pieces shown of what is cut.
_CUT_SHOWN = 40


def print_tokens(tokens: Tokens) -> None:
    """Print pieces, ids and mask on stdout, and what would be cut."""
    console = Console(highlight=False, width=None if _is_terminal() else _UNLIMITED)
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


def print_report(report: dict[str, Any]) -> None:
    """Print what came of measuring a model on stdout.

    Args:
        report: As `worker.bench` makes it.
    """
    console = Console(highlight=False, width=None if _is_terminal() else _UNLIMITED)
    cores = f"{report['cores']} core{'' if report['cores'] == 1 else 's'}" if report["device"] == "cpu" else ""
    where = " on ".join(filter(None, (report["device"], cores)))
    console.print(f"{report['model']} on {where}: {report['setup']}", markup=False)
    table = Table("stage", box=None, pad_edge=False)
    for column in ("µs a token", "share", "alone, tokens/s"):
        table.add_column(column, justify="right")
    total = sum(stage["seconds"] for stage in report["stages"])
    for stage in report["stages"]:
        cost = f"{stage['seconds'] / stage['tokens'] * 1e6:.2f}"
        table.add_row(stage["name"], cost, f"{stage['seconds'] / total:.1%}", f"{stage['tokens_per_second']:,.0f}")
    console.print(table, crop=False)
    rate = f"{report['tokens_per_second']:,.0f} tokens/s, {report['texts_per_second']:,.1f} texts/s"
    console.print(f"engine, texts to vectors   {rate}; {report['padding']:.1%} of what it computes is padding")
    products = f"{report['matrix_rate'] / 1e9:,.0f} GFLOP/s of matrix products"
    needed = f"{report['flops_a_token'] / 1e6:.1f} MFLOP a token"
    console.print(f"floor                      {report['floor_tokens_per_second']:,.0f} tokens/s: {products}, {needed}")
    console.print(f"share of the floor         {report['floor_share']:.0%}")
    console.print(report["verdict"], style="bold", soft_wrap=True)


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()
