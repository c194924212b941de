"""Writes the results' tables into docs/performance.md, between their marks; the words around them stay as they are."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import goals, servicetable, tables
from benchmarks.figures import MATRIX_UNIT, Figures, NotMeasured
from benchmarks.results import FOLDER

_PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"

#: What is written between which marks.
TABLES: dict[str, Callable[[Figures], str]] = {
    "goals": goals.table,
    "paragraphs": partial(tables.contenders, key="W7"),
    "contenders": tables.contenders,
    "workloads": tables.workloads,
    "matrix unit": partial(tables.workloads, file=MATRIX_UNIT),
    "layers": tables.layers,
    "latency": tables.latency,
    "keys": tables.keys,
    "stores": tables.stores,
    "submit": tables.submit,
    "service": servicetable.service,
}

_NOTHING = "Not measured yet."


def written(page: str, figures: Figures) -> str:
    """Return a page with every table between its marks.

    Args:
        page: The page as it is.
        figures: The results.

    Raises:
        ValueError: When the page has no place for a table.
    """
    for name, make in TABLES.items():
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
    """Write the page anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the results")
    parser.add_argument("--page", type=Path, default=_PAGE, help="the page with the marks")
    asked = parser.parse_args()
    page = asked.page.read_text(encoding="utf-8")
    asked.page.write_text(written(page, Figures(asked.results)), encoding="utf-8")


if __name__ == "__main__":
    main()
