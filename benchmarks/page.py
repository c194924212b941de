"""Writes the results' tables into the pages, between their marks; the words around them stay as they are."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import datatables, goals, servicetable, tables
from benchmarks.figures import MATRIX_UNIT, Figures, NotMeasured
from benchmarks.results import FOLDER

_DOCS = Path(__file__).resolve().parents[1] / "docs"

#: What is written between which marks of docs/performance.md.
TABLES: dict[str, Callable[[Figures], str]] = {
    "goals": goals.table,
    "paragraphs": partial(tables.contenders, key="W7"),
    "contenders": tables.contenders,
    "workloads": tables.workloads,
    "matrix unit": lambda figures: tables.workloads(figures.of(MATRIX_UNIT)),
    "layers": tables.layers,
    "latency": tables.latency,
    "keys": tables.keys,
    "stores": tables.stores,
    "submit": tables.submit,
    "service": servicetable.service,
}

#: What is written between which marks of docs/data.md.
TABLES_OF_DATA: dict[str, Callable[[Figures], str]] = {
    "sizes": datatables.sizes,
    "move": datatables.move,
    "pgvector": datatables.pgvector,
}

PAGES = {_DOCS / "performance.md": TABLES, _DOCS / "data.md": TABLES_OF_DATA}

_NOTHING = "Not measured yet."


def written(page: str, figures: Figures, made: Mapping[str, Callable[[Figures], str]] = TABLES) -> str:
    """Return a page with every table between its marks.

    Args:
        page: The page as it is.
        figures: The results.
        made: What is written between which marks.

    Raises:
        ValueError: When the page has no place for a table.
    """
    for name, make in made.items():
        begin, end = f"<!-- {name}: written by `make bench PART=page` -->", f"<!-- {name}: end -->"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise ValueError(f"the page has no place for a table: {begin} ... {end}")
        try:
            table = make(figures)
        except NotMeasured:
            table = _NOTHING
        page = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return page


def main() -> None:
    """Write the pages anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the results")
    asked = parser.parse_args()
    for path, made in PAGES.items():
        path.write_text(written(path.read_text(encoding="utf-8"), Figures(asked.results), made), encoding="utf-8")


if __name__ == "__main__":
    main()
